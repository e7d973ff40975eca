"""Parses an answer: the typed value, or the outcome and the validation errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ollama import ChatResponse, GenerateResponse

from ollama_otel._attempt import Attempt, StructuredOutcome
from ollama_otel._structured.output_type import OutputType

__all__ = ["Answer", "judge", "text_of"]

Official = ChatResponse | GenerateResponse


def text_of(part: Official) -> str:
    """Return the text of an answer, or of a part of it, without thinking."""
    return (part.message.content if isinstance(part, ChatResponse) else part.response) or ""


@dataclass(slots=True)
class Answer:
    """An answer so far: one response, or the parts of a stream."""

    output: OutputType[Any]
    number: int
    """1 for the first answer, 2 for the next one, and so on."""
    pieces: list[str] = field(default_factory=list)
    """The text of each part."""
    last: Any = None
    """The last part, as the official client returned it."""

    def add(self, part: Official) -> None:
        self.pieces.append(text_of(part))
        self.last = part

    def text(self, count: int | None = None) -> str:
        """Return the text of the first `count` parts; None: of all."""
        return "".join(self.pieces[:count])


def judge(answer: Answer) -> tuple[Any, Attempt]:
    """Return the value of a finished answer, if it has one, and its outcome."""
    text, last = answer.text(), answer.last
    value, reasons = answer.output.parsed(text)
    is_whole = last is not None and bool(last.done)
    is_cut = is_whole and last.done_reason == "length"
    if not reasons and ((is_whole and not is_cut) or _is_closed(text)):
        return value, Attempt(outcome="parsed", text=text, response=last)
    if not reasons:
        reasons = ("the text ends in a number that may go on",)
    outcome: StructuredOutcome = "schema_mismatch"
    if not is_whole:
        outcome = "incomplete"
    elif is_cut:
        outcome = "cut_by_num_predict"
    elif not text.strip() or not answer.output.is_possible(text):
        outcome = "schema_ignored"
    return None, Attempt(outcome=outcome, text=text, reasons=reasons, response=last)


def _is_closed(text: str) -> bool:
    """Whether valid JSON is complete: a number at its end could continue."""
    return not text.rstrip()[-1:].isdecimal()
