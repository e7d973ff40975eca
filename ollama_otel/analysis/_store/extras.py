"""The packages of the extra `analysis`, imported on use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ollama_otel.errors import MissingExtraError

__all__ = ["imported"]


def imported(name: str) -> Any:
    """Import a package of the extra `analysis`; raises `MissingExtraError` without it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"analysis needs the package {name}, which is not installed: "
            "pip install 'ollama_otel[analysis]'"
        ) from error
