"""The load generator: pure cores, and one runner that sends requests at intended times."""
