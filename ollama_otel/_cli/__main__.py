"""`python -m ollama_otel._cli`: runs the command if its script is not on the path."""

from __future__ import annotations

import sys

from ollama_otel._cli import main

sys.exit(main())
