"""Hours of telemetry in seconds: calls, servers and machines told with values, in virtual time."""
