"""Writes the reference pages that follow from tables in the code: `python docs/generate.py`."""

from __future__ import annotations

from pathlib import Path

from ollama_otel._facts import FACTS, FactTable

REFERENCE = Path(__file__).parent / "reference"

_FACTS_PAGE = """# Facts of a call

Every fact that a record holds: what it means, where it comes from, and its name in each output.
A fact that is unknown is absent: no `null`, no 0 in its place.
This page is generated from `ollama_otel/_facts.py`; run `python docs/generate.py` after a change.

- **Source**: `request` is what was sent, `server` what the server said, `client` the client's own clock and counts, `caller` what `call_context` said, `residency` what `/api/ps` said beside the call, and `estimate` is computed from other facts and not exact.
- **Span attribute**: set on the span of the call, if the fact is known.
- **Log line**: the line of the replay log (`request` or `end`) and the key in it.
- **Column**: the name in `ollama-otel show --json`, and in tables for analysis.

"""


def facts_page(facts: FactTable = FACTS) -> str:
    """Return the page of all facts."""
    return _FACTS_PAGE + facts.markdown()


PAGES = {"facts.md": facts_page}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        REFERENCE.joinpath(name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
