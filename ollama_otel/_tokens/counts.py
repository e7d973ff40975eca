"""`TokenCount`: a number of tokens, and its accuracy."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

__all__ = ["UNKNOWN", "CountTier", "TokenCount"]

CountTier = Literal["exact", "calibrated", "bytes"]
"""How a number of tokens was found.

`exact`: by the model's own vocabulary. `calibrated`: by another vocabulary and what earlier calls
to the model reported. `bytes`: by the number of bytes.
"""


class TokenCount(Struct, frozen=True, kw_only=True, gc=False):
    """The number of tokens of a prompt."""

    tokens: int | None
    """None if unknown: images, sounds, a template in the request."""
    tier: CountTier
    error: float | None = None
    """Median of the relative errors of earlier counts of this kind: 0 if exact, None if unknown."""
    error_p95: float | None = None
    """95th percentile of these errors."""


UNKNOWN: Final = TokenCount(tokens=None, tier="bytes")
