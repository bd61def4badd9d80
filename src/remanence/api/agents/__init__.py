"""The Agents API: `agents`, `sessions`, `events`, and what is `missing`."""
