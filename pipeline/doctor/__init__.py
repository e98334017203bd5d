"""Finds out why it does not work. Read-only: it joins no group, commits nothing, writes no object, starts no query."""
