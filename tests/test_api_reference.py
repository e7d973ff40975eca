"""The reference of the public names: each one has an entry that says what it is."""

from __future__ import annotations

import re

import pytest

from tests.generated import REFERENCE, description, entries
from tests.test_public import PUBLIC

API = REFERENCE / "api"
ENTRIES = {module: entries.entries(module) for module in PUBLIC}
OWN = [
    entry
    for module, found in ENTRIES.items()
    for entry in found.values()
    if entry is not None and entry.module == module
]
OF_OTHERS = {"ollama_otel.ollama": 29, "ollama_otel": 1}
"""Names without an entry: those of the official package, and the module `ollama`."""


def page_of(module: str) -> str:
    name = module.partition(".")[2] or "README"
    return (API / f"{name}.md").read_text(encoding="utf-8")


def test_the_public_modules_are_those_that_tests_know() -> None:
    assert set(entries.public_modules()) == set(PUBLIC)


def test_every_public_name_is_on_the_page_of_its_module() -> None:
    for module, found in ENTRIES.items():
        text = page_of(module)
        assert [name for name in found if f"`{name}`" not in text] == [], module
        others = [name for name, entry in found.items() if entry is None]
        assert len(others) == OF_OTHERS.get(module, 0), module


def test_every_name_is_described_on_one_page_and_linked_from_the_others() -> None:
    for module, found in ENTRIES.items():
        for entry in filter(None, found.values()):
            assert f"\n### {entry.heading}\n" in page_of(entry.module)
            if entry.module != module:
                assert f"({entry.place})" in page_of(module)


@pytest.mark.slow
def test_every_name_and_method_says_what_it_is() -> None:
    silent = {f"{entry.module}.{entry.name}" for entry in OWN if not entry.text}
    for entry in OWN:
        shown = description.entry_text(entry)
        silent |= {*re.findall(r"^#### (.+)\n\n```py\n[^`]*```\n\n(?=#|\Z)", shown, re.MULTILINE)}
    assert silent == set()


def test_a_page_is_the_same_in_every_process() -> None:
    """No addresses, no order of sets, and no paths of a machine."""
    text = "".join(page_of(module) for module in PUBLIC)
    assert (
        re.findall(r"\bat 0x[0-9a-f]+|<class |<function |frozenset\(\{|/home/|/root/", text) == []
    )


def test_signatures_name_nothing_private() -> None:
    text = "".join(page_of(module) for module in PUBLIC)
    shown = re.findall(r"^```py\n(.*?)^```$|^- `(.*?)`", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?<![\w.'\"])_[a-zA-Z]\w*", " ".join(map("".join, shown))) == []
