"""What a dialect says of its own protocol; all else in this library uses neutral values only.

A dialect is one class. It reads requests and responses into `RequestFacts`, `ResponseFacts`,
`Conversation` and `Message`, says where text and media stand in its JSON, and writes the few
documents that a replay server has to make up.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from msgspec import Struct

from ollama_otel._wire.failures import error_text
from ollama_otel._wire.framing import Framing
from ollama_otel._wire.lenient_json import parse_object
from ollama_otel.records import (
    Conversation,
    Endpoint,
    Message,
    Progress,
    RequestFacts,
    ResponseFacts,
)

__all__ = ["Dialect", "Fields", "MadeUp", "ProgressTally", "Speech", "VectorSpan"]

FieldKind = Literal["text", "repeat", "number", "time"]
"""What a field of a response holds, for whoever stores bodies without secrets.

`text`: a fragment of a text that the stream says bit by bit. `repeat`: says a text again in
another form (token ids, log probabilities). `number`: a count or a duration, however long.
`time`: a timestamp.
"""

Speech = Literal["answer", "thinking"]


class Fields(Struct, frozen=True, kw_only=True):
    """Where fields of known kinds stand in one message of a response."""

    kinds: Mapping[str, FieldKind] = {}
    """Kinds of the object's own fields."""
    inner: Mapping[str, Fields] = {}
    """Fields further in, by key; of a list they are those of each item."""
    identity: tuple[str, ...] = ()
    """Keys whose values tell several texts of one stream apart, such as the number of a choice."""


class VectorSpan(Struct, frozen=True, kw_only=True):
    """Where the vectors stand in the body of an embedding response."""

    start: int
    end: int
    count: int
    dimensions: int | None = None
    is_omitted: bool = False
    """Whether a mark stands there instead of vectors."""


class MadeUp(Struct, frozen=True, kw_only=True):
    """A document that a replay server answers with, although no log holds it."""

    body: bytes
    content_type: str = "application/json; charset=utf-8"


class ProgressTally(ABC):
    """Adds up the status messages of one pull, push or create."""

    @abstractmethod
    def add(self, message: Mapping[str, Any], now: float) -> None:
        """Take in one message that came at clock reading `now`, in seconds."""

    @abstractmethod
    def total(self) -> Progress:
        """Return how far it has come."""


class Dialect(ABC):
    """One protocol. Methods read what may be anybody's bytes, and none of them raises for it."""

    name: ClassVar[str]
    framing: ClassVar[Framing]
    model_field: ClassVar[str] = "model"
    """Field of a request that names the model."""
    setting_fields: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    """Paths of request fields that say how a model is run, and not what it is asked."""
    closing_count: ClassVar[int] = 1
    """Messages at the end of a stream that its facts stand in."""
    needs_opening: ClassVar[bool] = False
    """Whether facts stand in the first message of a stream, too."""
    response_fields: ClassVar[Fields] = Fields()
    request_media: ClassVar[frozenset[str]] = frozenset()
    """Keys of requests under which media stand in base64."""
    response_media: ClassVar[frozenset[str]] = frozenset()
    """Keys of responses under which media stand in base64."""

    # --- requests -------------------------------------------------------------------------

    def parse_request(self, content: bytes) -> dict[str, Any] | None:
        """Return a request's JSON object for reading its facts; media may be left out of it."""
        return parse_object(content)

    @abstractmethod
    def read_request(
        self, endpoint: Endpoint, body: Mapping[str, Any] | None, *, size: int | None
    ) -> RequestFacts:
        """Read the facts of a request; a body of None could not be read. `size` in bytes."""

    @abstractmethod
    def conversation(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Conversation:
        """Read what a request asks."""

    def canonical(self, endpoint: Endpoint | None, body: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return a request without what makes no difference to the server."""
        return dict(body)

    def with_model(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:
        """Return the same request to another model."""
        return {**body, self.model_field: model}

    # --- streams --------------------------------------------------------------------------

    def is_silent(self, payload: bytes) -> bool:  # noqa: ARG002
        """Whether a message surely holds no answer, without parsing it."""
        return False

    def has_tool_calls(self, data: bytes) -> bool:  # noqa: ARG002
        """Whether messages may hold tool calls, without parsing them."""
        return False

    def is_end_mark(self, payload: bytes) -> bool:  # noqa: ARG002
        """Whether a payload that is not JSON ends a stream, as the dialect says."""
        return False

    @abstractmethod
    def speech(self, message: Mapping[str, Any]) -> Speech | None:
        """Say whether one message of a stream begins an answer (text or tool call) or thinking."""

    @abstractmethod
    def read_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tool_messages: Sequence[Mapping[str, Any]],
        has_thinking: bool,
        has_end_mark: bool,
    ) -> ResponseFacts:
        """Read the facts of a streamed completion.

        `messages` are the first one, if `needs_opening`, and the last `closing_count`;
        `tool_messages` those before them that may carry tool calls.
        """

    @abstractmethod
    def joined(self, messages: Sequence[Mapping[str, Any]], *, is_cut: bool) -> Message | None:
        """Put together what a completion said, from all of its messages; None if nothing."""

    # --- documents ------------------------------------------------------------------------

    @abstractmethod
    def read_document(self, endpoint: Endpoint, body: bytes) -> ResponseFacts:
        """Read the facts of a response in one piece; `done` if it is all that was to come."""

    @abstractmethod
    def document_messages(self, body: bytes) -> list[dict[str, Any]]:
        """Return the messages of a completion in one piece, for `joined`."""

    def tally(self) -> ProgressTally | None:
        """Return what adds up the progress of one long job; None if the dialect has none."""
        return None

    def read_progress(self, last: Mapping[str, Any] | None) -> ResponseFacts:
        """Read the last status message of a long job."""
        return ResponseFacts(done=last is not None)

    def error_text(self, body: bytes) -> str:
        """Return the sentence for people in an error body."""
        return error_text(body)

    def vectors(self, body: bytes) -> VectorSpan | None:  # noqa: ARG002
        """Return where vectors stand in the body of an embedding response; None if nowhere."""
        return None

    # --- serving --------------------------------------------------------------------------

    @abstractmethod
    def error_body(self, text: str) -> bytes:
        """Return the body of a refusal."""

    def error_message(self, text: str) -> bytes:
        """Return an error as one message of a stream."""
        return self.framing.frame(self.error_body(text))

    def refusal(self, status: int, model: str | None) -> str | None:  # noqa: ARG002
        """Return the server's own words for an HTTP status; None if it has none."""
        return None

    def made_up(self, method: str, path: str, models: Sequence[str]) -> MadeUp | None:  # noqa: ARG002
        """Return what clients ask for on the side, where a log does not have it."""
        return None


def as_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8, as the server writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # JSON may have escaped half a surrogate pair, which UTF-8 has no form for.
    return text.encode("utf-8", "replace")
