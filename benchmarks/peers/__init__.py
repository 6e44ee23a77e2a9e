"""Cortical and its peers at the same work: ``make bench-peers``."""
