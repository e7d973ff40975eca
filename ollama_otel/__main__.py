"""`python -m ollama_otel` is the command `ollama-otel`, for when its script is not on the path."""

from __future__ import annotations

import sys

from ollama_otel._cli import main

sys.exit(main())
