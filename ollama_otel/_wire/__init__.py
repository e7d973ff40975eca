"""The protocols of Ollama servers; no HTTP library, no OpenTelemetry."""
