"""The replay log: format, files, redaction and reader."""
