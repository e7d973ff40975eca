"""Normalises model names as the server does."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["full_name", "key_of", "short_name"]


def full_name(name: str) -> str:
    """Return a model's name as `/api/tags` lists it: with a tag, without the default registry."""
    short = name.removeprefix("registry.ollama.ai/").removeprefix("library/")
    return short if ":" in short.rpartition("/")[2] else f"{short}:latest"


def short_name(name: str) -> str:
    """Return a model's name without the tag that the server adds by default."""
    return name.removesuffix(":latest")


@lru_cache(maxsize=256)
def key_of(name: str) -> str:
    """Return one key for all spellings of a model's name; the server ignores case."""
    return full_name(name).lower()
