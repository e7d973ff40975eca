"""The replay log as it is written: its values, its format, what may be stored, its files."""
