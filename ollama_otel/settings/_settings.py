"""All settings: built from keywords and variables, kept in groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypedDict, Unpack, get_type_hints

from ollama_otel._display import logger
from ollama_otel.settings._client_defaults import ClientDefaults
from ollama_otel.settings._groups import (
    ContentMode,
    ContentSettings,
    CostSettings,
    LifecycleSettings,
    Profile,
    ReplaySettings,
    ResidencySettings,
    ScrapeSettings,
    TelemetrySettings,
    TruncationMode,
    TruncationSettings,
)
from ollama_otel.settings._messages import PREFIX, did_you_mean
from ollama_otel.settings._rows import Row, _Group, read_variables, rows_of

__all__ = ["SettingKeywords", "Settings", "groups", "keywords"]

_SHARED_OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""The variable of all instrumentations; ours wins over it."""
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


class SettingKeywords(TypedDict, total=False):
    """The keywords of `Settings` and `configure`, for type checkers; the groups describe them."""

    profile: Profile
    time_per_output_chunk: bool
    response_model_on_metrics: bool
    propagate_baggage: bool
    max_models: int
    cold_start_threshold: float
    queue_threshold: float
    log_calls: bool
    capture_content: ContentMode
    emit_events: bool | None
    redactors: tuple[Callable[[str], str], ...]
    content_redaction: bool
    content_max_length: int
    replay_log: str | os.PathLike[str] | None
    replay_bodies: bool
    replay_media: bool
    replay_max_size: int
    replay_max_age: float
    replay_keep: int
    residency: bool
    residency_interval: float
    truncation: TruncationMode
    vocabulary_cache: str | os.PathLike[str] | None
    prices: str | os.PathLike[str] | None
    scrape_hosts: tuple[str, ...]
    auto_configure: bool
    shutdown_timeout: float
    shutdown_on_sigterm: bool


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Settings:
    """The settings of the instrumentation, in groups; every one has a default.

    It takes the keywords of `configure`: `Settings(replay_keep=5).replay.keep` is 5.
    `Settings.from_environ` reads the variables: a keyword overrides its variable, a variable
    overrides the default. Raises `SettingsError` for a wrong value.
    """

    telemetry: TelemetrySettings
    content: ContentSettings
    replay: ReplaySettings
    residency: ResidencySettings
    truncation: TruncationSettings
    cost: CostSettings
    scrape: ScrapeSettings
    lifecycle: LifecycleSettings

    def __init__(self, **values: Unpack[SettingKeywords]) -> None:
        if unknown := sorted(values.keys() - keywords().keys()):
            name = unknown[0]
            raise TypeError(f"Settings has no keyword {name}{did_you_mean(name, keywords())}")
        for name, group in groups().items():
            given = {
                row.name: values[row.keyword]  # type: ignore[literal-required]
                for row in rows_of(group)
                if row.keyword in values
            }
            object.__setattr__(self, name, group(**given))

    def __repr__(self) -> str:
        changed = [
            f"{row.keyword}={value!r}"
            for row, value in self._values()
            if value != row.kind.keep(row.default)
        ]
        return f"Settings({', '.join(changed)})"

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
        if text := environ.get(_SHARED_OPT_IN):
            values["profile"] = _profile_of(text)
        values |= read_variables(keywords().values(), environ, lenient=lenient)
        values |= {name: value for name, value in overrides.items() if value is not None}
        return cls(**values)

    def replace(self, **values: Unpack[SettingKeywords]) -> Settings:
        """Return a copy with other values, such as `settings.replace(residency=True)`."""
        own = {row.keyword: value for row, value in self._values()}
        return Settings(**{**own, **values})

    __replace__ = replace  # For `copy.replace` of Python 3.13.

    def _values(self) -> Iterator[tuple[Row, Any]]:
        for name, group in groups().items():
            for row in rows_of(group):
                yield row, getattr(getattr(self, name), row.name)


@cache
def groups() -> Mapping[str, type[_Group]]:
    """Return the groups of `Settings` by name."""
    return get_type_hints(Settings)


@cache
def keywords() -> Mapping[str, Row]:
    """Return the rows of `Settings` by keyword."""
    return {row.keyword: row for group in groups().values() for row in rows_of(group)}


def _profile_of(opt_in: str) -> Profile:
    """Read the variable that all instrumentations share; unknown words are for others."""
    words = {word.strip() for word in opt_in.split(",")}
    return "gen-ai-dev" if "gen_ai_latest_experimental" in words else "v1.41"


def _report_unknown_variables(environ: Mapping[str, str]) -> None:
    found = {variable for variable in environ if variable.startswith(PREFIX)}
    rows = (*keywords().values(), *rows_of(ClientDefaults))
    known = {row.variable for row in rows if row.variable is not None}
    for variable in sorted(found - known - _VARIABLES_OF_OTHERS - _reported):
        _reported.add(variable)
        hint = did_you_mean(variable, known)
        _log.warning("the variable %s is unknown and has no effect%s", variable, hint)
