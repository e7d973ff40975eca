"""The sans-I/O recorder: transport events become one `CallRecord`."""
