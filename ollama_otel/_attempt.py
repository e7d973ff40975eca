"""One answer to a request for a typed value, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Attempt", "StructuredOutcome"]

StructuredOutcome = Literal[
    "parsed", "schema_ignored", "cut_by_num_predict", "incomplete", "schema_mismatch"
]
"""The outcome of an answer to a request for a typed value.

`parsed`: it is a value of the type. `schema_ignored`: the text cannot be produced under the schema,
so the server did not apply it. `cut_by_num_predict`: the answer was cut at `num_predict`, or at the
server's own limit. `incomplete`: the server ended the answer without its final message.
`schema_mismatch`: the text may follow the schema, but the type's validation rejected it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One answer to a request for a typed value."""

    outcome: StructuredOutcome
    text: str = field(repr=False)
    """The whole answer, without thinking."""
    reasons: tuple[str, ...] = field(default=(), repr=False)
    """Validation errors, one line each: `price: Input should be greater than 0`. They may quote the
    answer. Empty if it was parsed.
    """
    response: Any = field(default=None, repr=False)
    """The official `ChatResponse` or `GenerateResponse`; of a stream, its last part."""
