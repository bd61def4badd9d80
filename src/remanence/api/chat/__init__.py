"""Chat Completions: `completions` is the route."""
