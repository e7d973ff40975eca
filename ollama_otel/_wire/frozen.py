"""Frozen, slotted, keyword-only dataclasses whose immutability is the type checker's to prove.

Python's own frozen classes set each field through `object.__setattr__`, which costs four
times as much; with some sixty fields a call that was a tenth of all that recording costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["frozen"]

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make `cls` a dataclass whose fields are not to be assigned after its creation."""
    return dataclass(slots=True, kw_only=True)(cls)
