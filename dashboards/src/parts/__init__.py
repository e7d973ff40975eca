"""Rows of panels of the server board."""
