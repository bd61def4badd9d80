"""The pure heart: folds of the journal, rules and decisions. No clock, no dice, no input or output."""
