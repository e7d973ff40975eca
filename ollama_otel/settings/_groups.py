"""The groups of `Settings`: one row for each setting."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ollama_otel.settings._kinds import (
    HOST_NAMES,
    PATH,
    REDACTORS,
    SECONDS,
    SECONDS_ABOVE_0,
    SWITCH,
    WHOLE_NUMBER,
    choice,
    optional,
)
from ollama_otel.settings._rows import _Group, setting

__all__ = [
    "ContentMode",
    "ContentSettings",
    "CostSettings",
    "LifecycleSettings",
    "Profile",
    "ReplaySettings",
    "ResidencySettings",
    "ScrapeSettings",
    "TelemetrySettings",
    "TruncationMode",
    "TruncationSettings",
]

Profile = Literal["v1.41", "gen-ai-dev"]
"""Version of the GenAI conventions: a released one, or the newest draft."""
TruncationMode = Literal["off", "screen", "confirm", "check"]
"""How prompts that a server cuts are found.

`off`: not at all. `screen`: by the facts of a call. `confirm`: also by counting the tokens of a
prompt, on a thread. `check`: also before a prompt is sent.
"""
ContentMode = Literal["no_content", "span_only", "event_only", "span_and_event"]
"""Where captured content goes: nowhere, on the span, into a log event, or both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings(_Group):
    """Spans, metrics and log lines."""

    profile: Profile = setting("v1.41", choice(Profile), "OLLAMA_OTEL_PROFILE")
    """Version of the GenAI conventions whose names are sent.

    `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` selects `gen-ai-dev` too.
    """

    time_per_output_chunk: bool = setting(False, SWITCH, "OLLAMA_OTEL_TIME_PER_OUTPUT_CHUNK")
    """Whether the gap before every chunk is recorded as a metric; off, as it costs per chunk."""

    response_model_on_metrics: bool = setting(
        False, SWITCH, "OLLAMA_OTEL_RESPONSE_MODEL_ON_METRICS"
    )
    """Whether metrics carry `gen_ai.response.model`; off, as Ollama repeats the requested name."""

    propagate_baggage: bool = setting(False, SWITCH, "OLLAMA_OTEL_PROPAGATE_BAGGAGE")
    """Whether requests carry OpenTelemetry's baggage to the server, and not trace context only."""

    max_models: int = setting(200, WHOLE_NUMBER, "OLLAMA_OTEL_MAX_MODELS")
    """Model names on metrics: so many that have answered, until the process ends, and a tenth as
    many that have not; further ones are counted as `_OTHER`.
    """

    cold_start_threshold: float = setting(0.1, SECONDS, "OLLAMA_OTEL_COLD_START_THRESHOLD")
    """Least `load_duration` of a cold start, seconds (a warm call: 0.001 to 0.05)."""

    queue_threshold: float = setting(0.05, SECONDS, "OLLAMA_OTEL_QUEUE_THRESHOLD")
    """Least estimated wait for a slot that counts as a wait, on spans and as a metric, seconds."""

    log_calls: bool = setting(False, SWITCH, "OLLAMA_OTEL_LOG_CALLS")
    """Whether each call is written to the application's log, through structlog or logging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentSettings(_Group):
    """Content of calls on spans and in log events: prompts, answers, tool calls."""

    mode: ContentMode = setting(
        "no_content",
        # Instrumentations that know no other values take `true`, and most put content on spans.
        choice(ContentMode, upper=True, true="span_only", false="no_content"),
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        keyword="capture_content",
    )
    """Where messages, answers, tool definitions, stop sequences and whole error texts go: nowhere,
    the span, a log event, or both. Log events need a backend for logs; Jaeger has traces only."""

    emit_events: bool | None = setting(
        None,
        optional(SWITCH, code="True, False or None"),
        "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT",
    )
    """Whether each inference sends a details event; None: only if content goes to events."""

    redactors: tuple[Callable[[str], str], ...] = setting((), REDACTORS, None)
    """Functions that run in order over every captured text before it is stored or sent."""

    redaction: bool = setting(
        True, SWITCH, "OLLAMA_OTEL_CONTENT_REDACTION", keyword="content_redaction"
    )
    """Whether captured content goes through the built-in redactors, too, before the others."""

    max_length: int = setting(
        32_768, WHOLE_NUMBER, "OLLAMA_OTEL_CONTENT_MAX_LENGTH", keyword="content_max_length"
    )
    """Characters kept of each captured text; fewer if the SDK limits the length of attributes."""

    @property
    def on_spans(self) -> bool:
        """Whether captured content goes on spans."""
        return self.mode in {"span_only", "span_and_event"}

    @property
    def on_events(self) -> bool:
        """Whether captured content goes into the details event."""
        return self.mode in {"event_only", "span_and_event"}

    @property
    def details_event(self) -> bool:
        """Whether the details event is sent at all."""
        return self.on_events if self.emit_events is None else self.emit_events


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings(_Group):
    """The replay log: a file of all calls."""

    log: str | os.PathLike[str] | None = setting(
        None, optional(PATH), "OLLAMA_OTEL_REPLAY_LOG", keyword="replay_log"
    )
    """File or folder of the replay log; `~` is the home folder. None: no log."""

    bodies: bool = setting(False, SWITCH, "OLLAMA_OTEL_REPLAY_BODIES", keyword="replay_bodies")
    """Whether the log holds redacted bodies of requests and responses, and not only the facts."""

    media: bool = setting(False, SWITCH, "OLLAMA_OTEL_REPLAY_MEDIA", keyword="replay_media")
    """Whether logged bodies hold images and vectors, and not only their hash and size."""

    max_size: int = setting(
        104_857_600, WHOLE_NUMBER, "OLLAMA_OTEL_REPLAY_MAX_SIZE", keyword="replay_max_size"
    )
    """Size in bytes at which a file of the log is compressed and a new one begun."""

    max_age: float = setting(
        86_400.0, SECONDS, "OLLAMA_OTEL_REPLAY_MAX_AGE", keyword="replay_max_age"
    )
    """Age in seconds at which a file of the log is compressed and a new one begun."""

    keep: int = setting(10, WHOLE_NUMBER, "OLLAMA_OTEL_REPLAY_KEEP", keyword="replay_keep")
    """Number of full compressed files to keep, the newest ones; more if they are small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencySettings(_Group):
    """What the servers hold in memory."""

    enabled: bool = setting(False, SWITCH, "OLLAMA_OTEL_RESIDENCY", keyword="residency")
    """Whether a thread polls `/api/ps` of the servers: model memory, GPU, loads, reloads."""

    interval: float = setting(
        5.0, SECONDS_ABOVE_0, "OLLAMA_OTEL_RESIDENCY_INTERVAL", keyword="residency_interval"
    )
    """Polling interval of `/api/ps`, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncationSettings(_Group):
    """Prompts that a server cuts without saying so."""

    mode: TruncationMode = setting(
        "off",
        choice(TruncationMode, true="confirm", false="off"),
        "OLLAMA_OTEL_TRUNCATION",
        keyword="truncation",
    )
    """How cut prompts are found: `off`; `screen`, by the facts of a call; `confirm`, by counting
    prompts on a thread; `check`, also before they are sent.
    """

    vocabulary_cache: str | os.PathLike[str] | None = setting(
        "~/.cache/ollama_otel/vocabularies", optional(PATH), "OLLAMA_OTEL_VOCABULARY_CACHE"
    )
    """Folder for the vocabularies of models, to count with; None: they are not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSettings(_Group):
    """What calls cost."""

    prices: str | os.PathLike[str] | None = setting(None, optional(PATH), "OLLAMA_OTEL_PRICES")
    """Price file (TOML) with which the cost of each call is estimated; None: no costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeSettings(_Group):
    """The scrape endpoint for Prometheus."""

    hosts: tuple[str, ...] = setting(
        (), HOST_NAMES, "OLLAMA_OTEL_SCRAPE_HOSTS", keyword="scrape_hosts"
    )
    """Further host names under which Prometheus scrapes the app; `*` is any.

    IP addresses and local names are always answered, and so is every name on an address that is
    not a loopback one, unless names are given.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleSettings(_Group):
    """Set-up at the first call, and shutdown."""

    auto_configure: bool = setting(False, SWITCH, "OLLAMA_OTEL_AUTO_CONFIGURE")
    """Whether the first call of a process calls `configure()`, unless the app has done that."""

    shutdown_timeout: float = setting(3.0, SECONDS_ABOVE_0, "OLLAMA_OTEL_SHUTDOWN_TIMEOUT")
    """Longest time that the shutdown of everything that `configure` set up takes, seconds."""

    shutdown_on_sigterm: bool = setting(False, SWITCH, "OLLAMA_OTEL_SHUTDOWN_ON_SIGTERM")
    """Whether `configure` handles SIGTERM: shut down, then do what the signal did before."""
