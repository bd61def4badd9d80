"""Long-term memory, pure: words and scores of the index, who may see what, and what a journal says to remember."""
