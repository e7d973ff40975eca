"""How many secrets the built-in redactors find, and how often they touch other text.

`python -m tests.benchmarks.redaction [--misses] [--json]`

The shapes of `tests/secret_shapes.py` give the recall per family, for the part that the rules are
tuned on and for the part that is held out. The false alarms are counted in texts that every
machine has: docstrings and lines of code of the standard library, and rows of random numbers. A
text counts if the redactors change it.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ollama_otel._log.privacy import BodyPolicy
from ollama_otel._wire.native import NATIVE
from tests.secret_shapes import Part, Shape, is_held, shapes

__all__ = ["FalseAlarms", "Recall", "false_alarms", "recall"]

_POLICY = BodyPolicy()
_ROWS = 4000

Recall = dict[str, tuple[int, int]]
"""By family: the number of shapes whose secret goes, and the number of shapes."""

FalseAlarms = dict[str, tuple[int, int]]
"""By kind of text: the number of texts that change, and the number of texts."""


def redacted(shape: Shape) -> str:
    """Return the text of a shape as a log stores it: a value of JSON in JSON."""
    if shape.family != "JSON values":
        return _POLICY.text(shape.text)
    body = {"tool_calls": [{"function": {"name": "f", "arguments": json.loads(shape.text)}}]}
    return json.dumps(_POLICY.request(json.dumps(body).encode(), NATIVE)[0])


def recall(part: Part) -> tuple[Recall, list[Shape]]:
    """Return the recall per family, and the shapes whose secret stays."""
    found: dict[str, list[bool]] = defaultdict(list)
    misses = []
    for family, shape in shapes(part):
        held = is_held(shape, redacted(shape))
        found[family].append(held)
        if not held:
            misses.append(shape)
    return {family: (sum(held), len(held)) for family, held in found.items()}, misses


def _sources() -> Iterator[str]:
    folder = Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        # Tests hold keys and passwords, and packages differ from machine to machine.
        if {"test", "tests", "site-packages", "idlelib"}.isdisjoint(parts):
            yield path.read_text(encoding="utf-8", errors="replace")


def _docstrings(sources: Iterable[str]) -> Iterator[str]:
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield text


def _rows(columns: range) -> Iterator[str]:
    numbers = random.Random(7)
    for _ in range(_ROWS):
        size = numbers.choice(columns)
        yield " ".join(str(numbers.randrange(1000, 10000)) for _ in range(size))


def _tables() -> Iterator[str]:
    rows = _rows(range(4, 5))
    for first in rows:
        yield "\n".join([first, *(next(rows) for _ in range(7))])


def _alarms(texts: Iterable[str], changed: list[tuple[str, str]] | None) -> tuple[int, int]:
    count = total = 0
    for text in texts:
        total += 1
        new = _POLICY.text(text)
        if new != text:
            count += 1
            if changed is not None:
                changed.append((text, new))
    return count, total


def false_alarms(changed: list[tuple[str, str]] | None = None) -> FalseAlarms:
    """Count the texts that change; `changed` collects them, before and after."""
    sources = list(_sources())
    lines = (line for source in sources for line in source.splitlines() if line.strip())
    return {
        "docstrings": _alarms(_docstrings(sources), changed),
        "lines of code": _alarms(lines, changed),
        "rows of 3 to 16 numbers of 4 digits": _alarms(_rows(range(3, 17)), changed),
        "tables of 8 rows of 4 such numbers": _alarms(_tables(), changed),
        "rows of 4 numbers of 4 digits": _alarms(_rows(range(4, 5)), changed),
        "rows of 12 numbers of 4 digits": _alarms(_rows(range(12, 13)), changed),
    }


def _share(counts: tuple[int, int]) -> float:
    return counts[0] / counts[1] if counts[1] else 0.0


def _total(found: Recall) -> tuple[int, int]:
    return sum(held for held, _ in found.values()), sum(all_ for _, all_ in found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--misses", action="store_true", help="print the shapes that are missed")
    parser.add_argument("--alarms", action="store_true", help="print the texts that change")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for part in ("tuned", "held_out"):
        found, misses = recall(part)
        figures[part] = {family: _share(counts) for family, counts in found.items()}
        if not arguments.json:
            for family, counts in {**found, "all": _total(found)}.items():
                print(f"{part:9} {family:24} {counts[0]:4} of {counts[1]:4} {_share(counts):7.1%}")
        if arguments.misses:
            for shape in misses:
                print(f"  missed: {shape.text!r} -> {redacted(shape)!r}")
    changed: list[tuple[str, str]] = []
    alarms = false_alarms(changed)
    figures["false alarms"] = {kind: _share(counts) for kind, counts in alarms.items()}
    if arguments.json:
        print(json.dumps(figures, indent=1))
        return
    for kind, counts in alarms.items():
        print(f"{kind:36} {counts[0]:6} of {counts[1]:7} {_share(counts):8.3%}")
    if arguments.alarms:
        for old, new in changed:
            for line, other in zip(old.splitlines(), new.splitlines(), strict=False):
                if line != other:
                    print(f"  - {line}\n  + {other}")


if __name__ == "__main__":
    main()
