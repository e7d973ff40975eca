"""The reference of the public names: a page for each public module, and an index."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Final

from generator.description import entry_text, joined
from generator.entries import GROUPS, Entry, entries, linked, page_of, public_modules, slug

__all__ = ["api_pages"]

_INDEX: Final = """\
# Public names

Every name that a program may import from `ollama_otel`: what it is, what it takes and returns, and what it raises.
A name that several modules offer is described on one page, and the others link to it.
Times are seconds and sizes are bytes unless the text says otherwise; `None` means unknown.
[Stability](../../stability.md) says what may change.
"""
_GENERATED: Final = """\
This page is generated from the code: run `python docs/generate.py` after a change to a public name.
"""
_OFFICIAL: Final = """\
## Names of the official package

These are the official package's own objects; [its documentation](https://github.com/ollama/ollama-python) describes them:
"""


def api_pages() -> dict[str, Callable[[], str]]:
    """Return what writes each page, by file name."""
    modules = public_modules()[1:]
    return {"README.md": _index_page} | {
        page_of(each): partial(_module_page, each) for each in modules
    }


def _index_page() -> str:
    modules = (f"- [`{each}`]({page_of(each)}): {_summary(each)}" for each in public_modules()[1:])
    own = (_row(name, entry) for name, entry in entries("ollama_otel").items())
    return (
        joined(
            _INDEX,
            "## Modules",
            "\n".join(modules),
            "## Names of the package itself",
            "`from ollama_otel import ...`:",
            "\n".join(own),
            _entries_text("ollama_otel"),
        )
        + _GENERATED
    )


def _summary(module: str) -> str:
    paragraph = (import_module(module).__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def _row(name: str, entry: Entry | None) -> str:
    if entry is None:
        return f"- [`{name}`](ollama.md): {_summary('ollama_otel.ollama')}"
    return f"- [`{name}`]({entry.place}): {entry.summary}"


def _module_page(module: str) -> str:
    offered = entries(module)
    official = [f"`{name}`" for name, entry in offered.items() if entry is None]
    elsewhere = [
        _row(name, entry)
        for name, entry in offered.items()
        if entry is not None and entry.module != module
    ]
    return (
        joined(
            f"# {module}",
            linked(inspect.cleandoc(import_module(module).__doc__ or ""), module),
            _contents(module),
            _entries_text(module),
            joined("## Described elsewhere", "\n".join(elsewhere)) if elsewhere else "",
            joined(_OFFICIAL, ", ".join(official)) if official else "",
        )
        + _GENERATED
    )


def _own(module: str) -> list[Entry]:
    return [each for each in entries(module).values() if each is not None and each.module == module]


def _contents(module: str) -> str:
    lines = []
    for group in GROUPS:
        own = [each for each in _own(module) if each.group == group]
        if own:
            names = ", ".join(f"[`{each.name}`](#{slug(each.heading)})" for each in own)
            lines.append(f"- {group}: {names}")
    return "\n".join(lines)


def _entries_text(module: str) -> str:
    text = ""
    for group in GROUPS:
        if own := [entry_text(each) for each in _own(module) if each.group == group]:
            text += joined(f"## {group}", *own)
    return text
