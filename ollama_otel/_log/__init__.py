"""The replay log: its format, its files, redaction of what it stores, and its reader."""
