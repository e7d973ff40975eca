"""The interface of a dialect; all other code of this library uses neutral values only.

A dialect is one class. It reads requests and responses into `RequestFacts`, `ResponseFacts`,
`Conversation` and `Message`, declares which fields of its JSON hold text and media, and writes the
few documents that a replay server makes up.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from msgspec import Struct

from ollama_otel._wire.failures import error_text
from ollama_otel._wire.framing import Framing
from ollama_otel._wire.installed_models import Capability
from ollama_otel._wire.lenient_json import is_costly, parse_object
from ollama_otel._wire.prompts import Prompt
from ollama_otel.records import (
    Conversation,
    Endpoint,
    Message,
    Progress,
    RequestFacts,
    ResponseFacts,
)

__all__ = [
    "ROLES",
    "Dialect",
    "Fields",
    "LoggedModel",
    "MadeUp",
    "ProgressTally",
    "Speech",
    "VectorSpan",
]

FieldKind = Literal["text", "repeat", "ids", "number", "time"]
"""What a field of a response holds; redaction needs to know it.

`text`: a fragment of a text that is spread over the stream. `repeat`: a text again in another
form (log probabilities). `ids`: a text again as token ids, which no redactor can read. `number`:
a count or a duration, of any length. `time`: a timestamp.
"""

Speech = Literal["answer", "thinking"]

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
"""The role of a message's author: the union over all dialects."""


class Fields(Struct, frozen=True, kw_only=True):
    """The fields of known kinds in one message of a response."""

    kinds: Mapping[str, FieldKind] = {}
    """Kinds of the object's own fields."""
    inner: Mapping[str, Fields] = {}
    """Nested fields, by key; for a list, those of each item."""
    identity: tuple[str, ...] = ()
    """Keys whose values identify one of several texts in a stream, such as a choice's index."""


class VectorSpan(Struct, frozen=True, kw_only=True):
    """The position of the vectors in the body of an embedding response."""

    start: int
    end: int
    count: int
    dimensions: int | None = None
    is_omitted: bool = False
    """Whether the body has a mark in place of the vectors."""


class MadeUp(Struct, frozen=True, kw_only=True):
    """A document that a replay server makes up because it is not in the log."""

    body: bytes
    content_type: str = "application/json; charset=utf-8"


class LoggedModel(Struct, frozen=True, kw_only=True):
    """The facts about a model in a log."""

    name: str
    """With its tag."""
    capabilities: tuple[Capability, ...] = ()
    """The capabilities that its calls used, sorted."""


class ProgressTally(ABC):
    """Adds up the status messages of one pull, push or create."""

    @abstractmethod
    def add(self, message: Mapping[str, Any], now: float) -> None:
        """Add one message that arrived at clock reading `now`, in seconds."""

    @abstractmethod
    def total(self) -> Progress:
        """Return the progress so far."""


class Dialect(ABC):
    """One protocol. Methods get untrusted bytes and JSON, and never raise for malformed ones."""

    name: ClassVar[str]
    framing: ClassVar[Framing]
    model_field: ClassVar[str] = "model"
    """Field of a request that names the model."""
    setting_fields: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    """Paths of request fields that configure the model, and are not its input."""
    closing_count: ClassVar[int] = 1
    """Number of messages at the end of a stream that hold its facts."""
    needs_first: ClassVar[bool] = False
    """Whether the first message of a stream holds facts, too."""
    response_fields: ClassVar[Fields] = Fields()
    request_ids: ClassVar[frozenset[str]] = frozenset()
    """Keys of a request whose values are texts as token ids."""
    request_data: ClassVar[frozenset[str]] = frozenset()
    """Keys of requests below which all names are the caller's own, such as tool arguments."""
    request_media: ClassVar[frozenset[str]] = frozenset()
    """Keys of requests that hold media in base64."""
    response_media: ClassVar[frozenset[str]] = frozenset()
    """Keys of responses that hold media in base64."""

    # --- requests -------------------------------------------------------------------------

    def parse_request(self, content: bytes) -> dict[str, Any] | None:
        """Return a request's JSON object for reading its facts; media may be left out.

        None if it is not a JSON object, or is costly to parse.
        """
        return None if is_costly(content) else parse_object(content)

    @abstractmethod
    def read_request(
        self, endpoint: Endpoint, body: Mapping[str, Any] | None, *, size: int | None
    ) -> RequestFacts:
        """Read the facts of a request; `body` is None if it is not readable. `size` in bytes."""

    @abstractmethod
    def conversation(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Conversation:
        """Read the content of a request."""

    def prompt(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Prompt | None:  # noqa: ARG002
        """Read the text that becomes the model's prompt; None if it is not known."""
        return None

    def canonical(self, endpoint: Endpoint | None, body: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return a normalised request: equal for requests that the server treats the same."""
        return dict(body)

    def with_model(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:
        """Return the same request to another model."""
        return {**body, self.model_field: model}

    # --- streams --------------------------------------------------------------------------

    def is_silent(self, payload: bytes) -> bool:  # noqa: ARG002
        """Whether a message certainly holds no answer, without parsing it."""
        return False

    def has_tool_calls(self, data: bytes) -> bool:  # noqa: ARG002
        """Whether messages may hold tool calls, without parsing them."""
        return False

    def is_end_mark(self, payload: bytes) -> bool:  # noqa: ARG002
        """Whether a payload that is not JSON is the dialect's end mark."""
        return False

    def is_foreign(self, data: bytes) -> bool:
        """Whether one of the complete messages in `data` violates the dialect.

        Clients raise an exception for such a message; of NDJSON also for a blank line.
        """
        payloads = self.framing.payloads(data.removesuffix(b"\n")) if data else []
        return not all(map(self._is_message, payloads))

    def _is_message(self, payload: bytes) -> bool:
        if not (bare := payload.strip()):
            return self.framing.has_other_lines
        # Clients replace invalid UTF-8, and do not accept a byte order mark.
        text = bare.decode("utf-8", "replace")
        return self.is_end_mark(bare) or parse_object(text) is not None

    @abstractmethod
    def speech(self, message: Mapping[str, Any]) -> tuple[Speech, ...]:
        """Return whether a message has an answer (text, tool call), thinking, both or neither."""

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

        `messages` are the first one, if `needs_first`, and the last `closing_count`;
        `tool_messages` are those before them that may hold tool calls.
        """

    @abstractmethod
    def joined(self, messages: Sequence[Mapping[str, Any]], *, is_cut: bool) -> Message | None:
        """Join the messages of a completion; None if they have no content."""

    # --- documents ------------------------------------------------------------------------

    @abstractmethod
    def read_document(self, endpoint: Endpoint, body: bytes) -> ResponseFacts:
        """Read the facts of a response that is one document; `done` if it is complete."""

    @abstractmethod
    def document_messages(self, body: bytes) -> list[dict[str, Any]]:
        """Return the messages of a completion that is one document, for `joined`."""

    def tally(self) -> ProgressTally | None:
        """Return a tally of one long job; None if the dialect has no such jobs."""
        return None

    def read_progress(self, last: Mapping[str, Any] | None) -> ResponseFacts:
        """Read the last status message of a long job."""
        return ResponseFacts(done=last is not None)

    def error_text(self, body: bytes) -> str:
        """Return the message in an error body."""
        return error_text(body)

    def vectors(self, body: bytes) -> VectorSpan | None:  # noqa: ARG002
        """Return the position of the vectors in an embedding response; None if it has none."""
        return None

    # --- serving --------------------------------------------------------------------------

    @abstractmethod
    def error_body(self, text: str) -> bytes:
        """Return the body of an error response."""

    def error_message(self, text: str) -> bytes:
        """Return an error as one message of a stream."""
        return self.framing.frame(self.error_body(text))

    def refusal(self, status: int, model: str | None) -> str | None:  # noqa: ARG002
        """Return the server's message for an HTTP status; None if there is none."""
        return None

    def made_up(
        self,
        method: str,  # noqa: ARG002
        path: str,  # noqa: ARG002
        endpoint: Endpoint | None,  # noqa: ARG002
        body: Mapping[str, Any],  # noqa: ARG002
        models: Sequence[LoggedModel],  # noqa: ARG002
    ) -> MadeUp | None:
        """Return the response to a client's side request, such as the version; None if unknown."""
        return None


def as_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8, as the server writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair, which JSON can escape, has no UTF-8.
    return text.encode("utf-8", "replace")
