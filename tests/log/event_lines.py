"""Lines of a log, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def line(number: int, event: str = "request", **fields: Any) -> bytes:
    """A line of the event, by default that of a call that begins."""
    values = {
        "v": 1,
        "event": event,
        "id": f"4f3a2b1c-{number}",
        "at": f"2026-01-02T03:04:{number:02d}.500000Z",
        "operation": "chat",
        "method": "POST",
        "path": "/api/chat",
        **fields,
    }
    return json.dumps(values).encode() + b"\n"


def end(number: int, outcome: str = "completed", **fields: Any) -> bytes:
    """The line of a call that has ended."""
    values = {"model": "m:latest", "outcome": outcome, "duration": 1.2, **fields}
    return line(number, "end", **values)


def append(path: Path, *lines: bytes) -> None:
    """Write lines to the end of a file."""
    with path.open("ab") as file:
        file.write(b"".join(lines))
