"""The handlers that are there without being registered."""
