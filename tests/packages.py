"""Packages of others that some tests need: the group `examples` of pyproject.toml."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

__all__ = ["need"]


def need(*packages: str) -> None:
    """Skip a test without these packages, or fail in CI; none of them is imported here.

    Their warnings would be errors in this process, so that tests run them in processes of their own.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return
    message = f"{', '.join(missing)} is not installed: pip install --group examples"
    if os.environ.get("OLLAMA_OTEL_REQUIRE_REAL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
