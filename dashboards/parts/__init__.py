"""Rows of panels that are too many for the file of their board."""
