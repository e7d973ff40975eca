"""The generator of the reference pages: the program `docs/generate.py`, and its modules."""

from __future__ import annotations

import sys

from tests.documents import DOCS

__all__ = ["REFERENCE", "commands", "description", "entries", "generate"]

# The program and its modules import each other as a program in that folder does.
sys.path.insert(0, str(DOCS))

import generate
from generator import commands, description, entries

REFERENCE = generate.REFERENCE
