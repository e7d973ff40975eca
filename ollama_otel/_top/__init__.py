"""What servers and calls do now: a state machine without I/O, fed by a log, `/api/ps` or a scrape.

The terminal is not known here.
"""
