"""Responses and Conversations: `responses`, `conversations` and `socket` are the routes."""
