"""The report: what the calls of a log show, as typed values and as one HTML page."""
