"""One file for each board; each has a `BOARD`, and a further file is a further board."""
