"""The sections of the report: each has its queries, and builds its figures from their rows."""
