"""How the server spells the names of models, so that two spellings of one name are the same."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["full_name", "key_of", "short_name"]


def full_name(name: str) -> str:
    """Return a model's name as the server lists it: with a tag, without the default registry."""
    short = name.removeprefix("registry.ollama.ai/").removeprefix("library/")
    return short if ":" in short.rpartition("/")[2] else f"{short}:latest"


def short_name(name: str) -> str:
    """Return a model's name without the tag that the server adds where there is none."""
    return name.removesuffix(":latest")


@lru_cache(maxsize=256)
def key_of(name: str) -> str:
    """Return the same text for all spellings of a model's name; the server ignores case."""
    return full_name(name).lower()
