"""The live view: a state machine without I/O, fed by a log, `/api/ps` or a scrape.

It is independent of the terminal.
"""
