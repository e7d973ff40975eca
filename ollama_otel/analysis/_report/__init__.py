"""The report about the calls of a log, as typed values and as one HTML page."""
