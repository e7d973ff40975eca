"""Answers from recorded calls: what they cost, how many a server can take, what to change."""
