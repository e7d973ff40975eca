"""Every setting: its variable, default, type and meaning; the only reader of the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from ollama_otel._admission import is_host_name
from ollama_otel._display import logger
from ollama_otel._frozen import FrozenDict
from ollama_otel.errors import SettingsError

__all__ = ["ClientDefaults", "ContentMode", "Profile", "Settings", "TruncationMode"]

Profile = Literal["v1.41", "gen-ai-dev"]
TruncationMode = Literal["off", "screen", "confirm", "check"]
ContentMode = Literal["no_content", "span_only", "event_only", "span_and_event"]

_PREFIX = "OLLAMA_OTEL_"
_VARIABLES_OF_OTHERS = frozenset(
    {
        # Read by the boards' compose file, and by this project's tests.
        "OLLAMA_OTEL_LOGS",
        "OLLAMA_OTEL_REQUIRE_REAL",
        "OLLAMA_OTEL_TEST_SERVERS",
    }
)
_reported: set[str] = set()
"""Unknown variables that have been reported, so that each is reported once."""

_log = logger()


def _boolean(text: str) -> bool:
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise ValueError("true or false")


def _host_names(text: str) -> tuple[str, ...]:
    names = tuple(name for each in text.split(",") if (name := each.strip()))
    if not all(map(is_host_name, names)):
        raise ValueError("host names without ports, separated by commas")
    return names


def _positive_integer(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError("a whole number of at least 1")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError("a number of seconds, 0 or more")
    return number


def _interval(text: str) -> float:
    try:
        number = _seconds(text)
    except ValueError:
        number = 0.0
    if not number:
        raise ValueError("a number of seconds above 0")
    return number


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("a JSON object")  # noqa: TRY004 - its message is the expectation
    return value


def _is_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and value != "")


def _profile(text: str) -> Profile:
    match text.strip().lower():
        case "v1.41":
            return "v1.41"
        case "gen-ai-dev":
            return "gen-ai-dev"
    raise ValueError("v1.41 or gen-ai-dev")


def _stability_opt_in(text: str) -> Profile:
    """Read the variable that all instrumentations share; unknown words are for others."""
    words = {word.strip() for word in text.split(",")}
    return "gen-ai-dev" if "gen_ai_latest_experimental" in words else "v1.41"


def _content_mode(text: str) -> ContentMode:
    match text.strip().lower():
        case "no_content" | "false":
            return "no_content"
        case "span_only":
            return "span_only"
        case "event_only":
            return "event_only"
        case "span_and_event" | "true":
            return "span_and_event"
    raise ValueError("NO_CONTENT, SPAN_ONLY, EVENT_ONLY or SPAN_AND_EVENT")


def _truncation_mode(text: str) -> TruncationMode:
    match text.strip().lower():
        case "off" | "false":
            return "off"
        case "screen":
            return "screen"
        case "confirm" | "true":
            return "confirm"
        case "check":
            return "check"
    raise ValueError("off, screen, confirm or check")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean NAME?)` with the most similar name, or nothing if none is similar."""
    from difflib import get_close_matches  # noqa: PLC0415 - few programs need it

    # The prefix that names share is left out, or all of them would be similar.
    by_end = {each.removeprefix(_PREFIX): each for each in known}
    close = get_close_matches(name.removeprefix(_PREFIX), by_end, n=1)
    return "".join(f" (did you mean {by_end[each]}?)" for each in close)


def _report_unknown_variables(environ: Mapping[str, str]) -> None:
    rows = (*fields(Settings), *fields(ClientDefaults))
    known = {variable for row in rows for variable in row.metadata["variables"]}
    found = {variable for variable in environ if variable.startswith(_PREFIX)}
    for variable in sorted(found - known - _VARIABLES_OF_OTHERS - _reported):
        _reported.add(variable)
        hint = did_you_mean(variable, known)
        _log.warning("the variable %s is unknown and has no effect%s", variable, hint)


def _in_home(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the path with the home folder in place of a leading `~` or `~user`."""
    return os.path.expanduser(path) if str(path).startswith("~") else path  # noqa: PTH111 - any path


def _is_path(value: object) -> bool:
    """Whether a value is a path, or None."""
    if value is None:
        return True
    return isinstance(value, str | os.PathLike) and str(value) != "" and "\0" not in str(value)


def _is_number(value: object, kind: type | tuple[type, ...], least: int) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and value >= least  # type: ignore[operator]


def _setting(
    default: Any,
    parsed_by: Callable[[str], Any] | None = None,
    *variables: str,
) -> Any:
    """Return one row; the first of several variables that is set wins."""
    return field(default=default, metadata={"parsed_by": parsed_by, "variables": variables})


def _read(cls: Any, environ: Mapping[str, str], *, lenient: bool) -> dict[str, Any]:
    """Read the variables of a class's rows, as `Settings.from_environ` says."""
    values: dict[str, Any] = {}
    for row in fields(cls):
        for variable in row.metadata.get("variables", ()):
            # An empty variable counts as unset, as everywhere in OpenTelemetry.
            if not (text := environ.get(variable, "").strip()):
                continue
            try:
                values[row.name] = row.metadata["parsed_by"](text)
            except ValueError as expected:
                message = f"{variable} must be {expected}, not {text!r}"
                if not lenient:
                    raise SettingsError(message) from None
                _log.warning("%s; using the default", message)
            break
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDefaults:
    """What a `Client` or `AsyncClient` does if a call does not say otherwise.

    A keyword overrides its variable. Without both, the client sends what the official one sends.
    """

    base_url: str | None = _setting(None, str, "OLLAMA_OTEL_BASE_URL")
    """Address of the server, for clients that are given no host; it comes before `OLLAMA_HOST`."""

    model: str | None = _setting(None, str, "OLLAMA_OTEL_MODEL")
    """Model of calls that name none."""

    keep_alive: str | float | None = _setting(None, _number_or_text, "OLLAMA_OTEL_KEEP_ALIVE")
    """How long the model stays in memory, for calls that do not say: seconds or a duration."""

    options: Mapping[str, Any] | None = _setting(None, _json_object, "OLLAMA_OTEL_OPTIONS")
    """Options of the model, for each one that a call does not give; a JSON object."""

    deadline: float | None = _setting(None, _interval, "OLLAMA_OTEL_DEADLINE")
    """Time for a whole call, seconds; see `Resilience.deadline`."""

    pool_size: int | None = _setting(None, _positive_integer, "OLLAMA_OTEL_POOL_SIZE")
    """Connections of the client; further calls wait for one. None: httpx's default."""

    def __post_init__(self) -> None:
        expectations: tuple[tuple[str, bool, str], ...] = (
            *((name, _is_text(getattr(self, name)), "a text") for name in ("base_url", "model")),
            (
                "keep_alive",
                isinstance(self.keep_alive, str | int | float | None)
                and self.keep_alive not in ("", True, False),
                "seconds, or a duration such as '5m'",
            ),
            ("options", isinstance(self.options, Mapping | None), "a mapping"),
            (
                "deadline",
                self.deadline is None
                or (
                    _is_number(self.deadline, (int, float), 0) and 0 < self.deadline < float("inf")
                ),
                "seconds above 0",
            ),
            (
                "pool_size",
                self.pool_size is None or _is_number(self.pool_size, int, 1),
                "a whole number of at least 1",
            ),
        )
        for name, holds, expected in expectations:
            if not holds:
                found = getattr(self, name)
                raise SettingsError(f"the default {name} must be {expected}, not {found!r}")
        if self.options is not None:
            object.__setattr__(self, "options", FrozenDict(self.options))

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] | None = None, *, lenient: bool = False
    ) -> ClientDefaults:
        """Read the variables, as `Settings.from_environ` does."""
        return cls(**_read(cls, os.environ if environ is None else environ, lenient=lenient))

    def over(self, other: ClientDefaults) -> ClientDefaults:
        """Return these defaults, and those of `other` where these have none."""
        names = [row.name for row in fields(self)]
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(other, **own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of the instrumentation; every field has a default.

    A keyword overrides its variable, a variable overrides the default.
    """

    profile: Profile = _setting("v1.41", _profile, "OLLAMA_OTEL_PROFILE")
    """Version of the GenAI conventions whose names are sent.

    `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` selects `gen-ai-dev` too.
    """

    capture_content: ContentMode = _setting(
        "no_content", _content_mode, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    )
    """Where messages, answers, tool definitions, stop sequences and whole error texts go: nowhere,
    the span, a log event, or both."""

    emit_events: bool | None = _setting(None, _boolean, "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT")
    """Whether each inference sends a details event; None: only if content goes to events."""

    redactors: tuple[Callable[[str], str], ...] = _setting(())
    """Functions that run in order over every captured text before it is stored or sent."""

    content_redaction: bool = _setting(True, _boolean, "OLLAMA_OTEL_CONTENT_REDACTION")
    """Whether captured content goes through the built-in redactors, too, before the others."""

    content_max_length: int = _setting(32_768, _positive_integer, "OLLAMA_OTEL_CONTENT_MAX_LENGTH")
    """Characters kept of each captured text; fewer if the SDK limits the length of attributes."""

    time_per_output_chunk: bool = _setting(False, _boolean, "OLLAMA_OTEL_TIME_PER_OUTPUT_CHUNK")
    """Whether the gap before every chunk is recorded as a metric; off, as it costs per chunk."""

    response_model_on_metrics: bool = _setting(
        False, _boolean, "OLLAMA_OTEL_RESPONSE_MODEL_ON_METRICS"
    )
    """Whether metrics carry `gen_ai.response.model`; off, as Ollama repeats the requested name."""

    propagate_baggage: bool = _setting(False, _boolean, "OLLAMA_OTEL_PROPAGATE_BAGGAGE")
    """Whether requests carry OpenTelemetry's baggage to the server, and not trace context only."""

    max_models: int = _setting(200, _positive_integer, "OLLAMA_OTEL_MAX_MODELS")
    """Model names on metrics: so many that have answered, until the process ends, and a tenth as
    many that have not; further ones are counted as `_OTHER`.
    """

    cold_start_threshold: float = _setting(0.1, _seconds, "OLLAMA_OTEL_COLD_START_THRESHOLD")
    """Least `load_duration` of a cold start, seconds (a warm call: 0.001 to 0.05)."""

    queue_threshold: float = _setting(0.05, _seconds, "OLLAMA_OTEL_QUEUE_THRESHOLD")
    """Least estimated wait for a slot that counts as one, on spans and as a metric, seconds."""

    scrape_hosts: tuple[str, ...] = _setting((), _host_names, "OLLAMA_OTEL_SCRAPE_HOSTS")
    """Further host names under which Prometheus scrapes the app, separated by commas; `*` is any.

    IP addresses and local names are always answered, and so is every name on an address that is
    not a loopback one, unless names are given.
    """

    replay_log: str | os.PathLike[str] | None = _setting(None, str, "OLLAMA_OTEL_REPLAY_LOG")
    """File or folder of the replay log; `~` is the home folder. None: no log."""

    replay_bodies: bool = _setting(False, _boolean, "OLLAMA_OTEL_REPLAY_BODIES")
    """Whether the log holds redacted bodies of requests and responses, and not only the facts."""

    replay_media: bool = _setting(False, _boolean, "OLLAMA_OTEL_REPLAY_MEDIA")
    """Whether logged bodies hold images and vectors, and not only their hash and size."""

    replay_max_size: int = _setting(104_857_600, _positive_integer, "OLLAMA_OTEL_REPLAY_MAX_SIZE")
    """Size in bytes at which a file of the log is compressed and a new one begun."""

    replay_max_age: float = _setting(86_400.0, _seconds, "OLLAMA_OTEL_REPLAY_MAX_AGE")
    """Age in seconds at which a file of the log is compressed and a new one begun."""

    replay_keep: int = _setting(10, _positive_integer, "OLLAMA_OTEL_REPLAY_KEEP")
    """Number of full compressed files to keep, the newest ones; more if they are small."""

    log_calls: bool = _setting(False, _boolean, "OLLAMA_OTEL_LOG_CALLS")
    """Whether each call is written to the application's log, through structlog or logging."""

    residency: bool = _setting(False, _boolean, "OLLAMA_OTEL_RESIDENCY")
    """Whether a thread polls `/api/ps` of the servers: model memory, GPU, loads, reloads."""

    residency_interval: float = _setting(5.0, _interval, "OLLAMA_OTEL_RESIDENCY_INTERVAL")
    """Polling interval of `/api/ps`, seconds."""

    truncation: TruncationMode = _setting("off", _truncation_mode, "OLLAMA_OTEL_TRUNCATION")
    """How prompts that a server cuts without saying so are found: `off`; `screen`, by the facts of
    a call; `confirm`, by counting prompts on a thread; `check`, also before they are sent.
    """

    vocabulary_cache: str | os.PathLike[str] | None = _setting(
        "~/.cache/ollama_otel/vocabularies", str, "OLLAMA_OTEL_VOCABULARY_CACHE"
    )
    """Folder for the vocabularies of models, to count with; None: they are not stored."""

    prices: str | os.PathLike[str] | None = _setting(None, str, "OLLAMA_OTEL_PRICES")
    """Price file (TOML) with which the cost of each call is estimated; None: no costs."""

    auto_configure: bool = _setting(False, _boolean, "OLLAMA_OTEL_AUTO_CONFIGURE")
    """Whether the first call of a process calls `configure()`, unless the app has done that."""

    shutdown_timeout: float = _setting(3.0, _interval, "OLLAMA_OTEL_SHUTDOWN_TIMEOUT")
    """Longest time that the shutdown of everything that `configure` set up takes, seconds."""

    shutdown_on_sigterm: bool = _setting(False, _boolean, "OLLAMA_OTEL_SHUTDOWN_ON_SIGTERM")
    """Whether `configure` handles SIGTERM: shut down, then do what the signal did before."""

    def __post_init__(self) -> None:
        expectations: tuple[tuple[str, bool, str], ...] = (
            ("profile", self.profile in get_args(Profile), "'v1.41' or 'gen-ai-dev'"),
            (
                "capture_content",
                self.capture_content in get_args(ContentMode),
                "'no_content', 'span_only', 'event_only' or 'span_and_event'",
            ),
            ("emit_events", self.emit_events in (None, True, False), "True, False or None"),
            (
                "redactors",
                isinstance(self.redactors, tuple) and all(map(callable, self.redactors)),
                "a tuple of functions from text to text",
            ),
            (
                "time_per_output_chunk",
                self.time_per_output_chunk in (True, False),
                "True or False",
            ),
            (
                "response_model_on_metrics",
                self.response_model_on_metrics in (True, False),
                "True or False",
            ),
            (
                "scrape_hosts",
                isinstance(self.scrape_hosts, tuple)
                and all(isinstance(each, str) and is_host_name(each) for each in self.scrape_hosts),
                "a tuple of host names without ports",
            ),
            (
                "content_max_length",
                _is_number(self.content_max_length, int, 1),
                "a whole number of at least 1",
            ),
            ("max_models", _is_number(self.max_models, int, 1), "a whole number of at least 1"),
            (
                "cold_start_threshold",
                _is_number(self.cold_start_threshold, (int, float), 0),
                "seconds, 0 or more",
            ),
            (
                "queue_threshold",
                _is_number(self.queue_threshold, (int, float), 0),
                "seconds, 0 or more",
            ),
            *(
                (name, _is_path(getattr(self, name)), "a path or None")
                for name in ("replay_log", "vocabulary_cache", "prices")
            ),
            (
                "truncation",
                self.truncation in get_args(TruncationMode),
                "'off', 'screen', 'confirm' or 'check'",
            ),
            *(
                (name, getattr(self, name) in (True, False), "True or False")
                for name in (
                    *("propagate_baggage", "replay_bodies", "replay_media", "log_calls"),
                    "content_redaction",
                    *("residency", "auto_configure", "shutdown_on_sigterm"),
                )
            ),
            *(
                (name, _is_number(getattr(self, name), int, 1), "a whole number of at least 1")
                for name in ("replay_max_size", "replay_keep")
            ),
            (
                "replay_max_age",
                _is_number(self.replay_max_age, (int, float), 0),
                "seconds, 0 or more",
            ),
            (
                "residency_interval",
                _is_number(self.residency_interval, (int, float), 0)
                and 0 < self.residency_interval < float("inf"),
                "seconds above 0",
            ),
            (
                "shutdown_timeout",
                _is_number(self.shutdown_timeout, (int, float), 0)
                and 0 < self.shutdown_timeout < float("inf"),
                "seconds above 0",
            ),
        )
        for name, holds, expected in expectations:
            if not holds:
                found = getattr(self, name)
                raise SettingsError(f"the setting {name} must be {expected}, not {found!r}")
        for name in ("replay_log", "vocabulary_cache", "prices"):
            if (path := getattr(self, name)) is not None:
                # No shell expands the value of a keyword, or of a variable in a service's file.
                object.__setattr__(self, name, _in_home(path))

    @property
    def content_on_spans(self) -> bool:
        """Whether captured content goes on spans."""
        return self.capture_content in {"span_only", "span_and_event"}

    @property
    def content_on_events(self) -> bool:
        """Whether captured content goes into the details event."""
        return self.capture_content in {"event_only", "span_and_event"}

    @property
    def details_event(self) -> bool:
        """Whether the details event is sent at all."""
        return self.content_on_events if self.emit_events is None else self.emit_events

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        lenient: bool = False,
        **overrides: Any,
    ) -> Settings:
        """Read the variables; `overrides` that are not None win over them.

        Raises `SettingsError` for an invalid value. With `lenient` it logs a warning instead and
        uses the default, so that a mistyped variable does not break the application. It logs a
        warning for each unknown variable whose name begins with `OLLAMA_OTEL_`, once in a process.
        """
        environ = os.environ if environ is None else environ
        _report_unknown_variables(environ)
        values: dict[str, Any] = {}
        if text := environ.get("OTEL_SEMCONV_STABILITY_OPT_IN"):
            values["profile"] = _stability_opt_in(text)
        values |= _read(cls, environ, lenient=lenient)
        values |= {name: value for name, value in overrides.items() if value is not None}
        return cls(**values)
