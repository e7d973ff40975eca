"""Tests against real servers, which `install.py` installs."""
