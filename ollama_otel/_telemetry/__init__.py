"""Records become OpenTelemetry: spans, metrics and log events."""
