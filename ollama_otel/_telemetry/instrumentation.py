"""Builds an `Instrumentation` from providers and settings; no other module does."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypedDict, get_args

from opentelemetry._logs import LoggerProvider, get_logger, get_logger_provider
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider, get_meter, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer, get_tracer_provider

from ollama_otel import _names as names
from ollama_otel import _process
from ollama_otel._display import logger
from ollama_otel._exchange import open_calls
from ollama_otel._exchange.observers import Enricher, Instrumentation, LoggingObserver, Observer
from ollama_otel._telemetry import first_call
from ollama_otel._telemetry.agents import AgentTelemetry
from ollama_otel._telemetry.events import EventObserver
from ollama_otel._telemetry.messages import MessageWriter
from ollama_otel._telemetry.metrics import Instruments, MetricObserver
from ollama_otel._telemetry.per_provider import PerProvider
from ollama_otel._telemetry.spans import SpanTracing
from ollama_otel.errors import PriceError, SettingsError
from ollama_otel.settings import Profile, Settings
from ollama_otel.settings._messages import did_you_mean

if TYPE_CHECKING:
    from ollama_otel._log.observer import ReplayLog
    from ollama_otel._prices.values import Prices

__all__ = [
    "InstrumentationOptions",
    "build_instrumentation",
    "instrumentation_for",
    "replay_log_of",
    "use_by_default",
]


class InstrumentationOptions(TypedDict, total=False):
    """The keywords of every entry point: an `Instrumentation`, or the arguments to build one."""

    instrumentation: Instrumentation | None
    """Excludes all other keywords."""
    tracer_provider: TracerProvider | None
    """None: the global one."""
    meter_provider: MeterProvider | None
    """None: the global one."""
    logger_provider: LoggerProvider | None
    """None: the global one."""
    settings: Settings | None
    """None: read from the environment."""
    observers: Sequence[Observer]
    """Your own observers, in addition to spans and metrics."""
    enrichers: Sequence[Enricher]
    """Your own enrichers, in addition to those enabled by the settings."""


_log = logger()
_lock = threading.Lock()
_instruments: Final[Mapping[Profile, PerProvider[MeterProvider, Instruments]]] = {
    profile: PerProvider(get_meter_provider) for profile in get_args(Profile)
}
_default: _Following | None = None
_replay_logs: weakref.WeakValueDictionary[tuple[object, ...], ReplayLog] = (
    weakref.WeakValueDictionary()
)


@cache
def _version() -> str:
    """Return the package's version; cached, as it is read from a file."""
    return version("ollama_otel")


def _instruments_of(meter_provider: MeterProvider | None, profile: Profile) -> Instruments:
    """Return the instruments of a provider, the same object each time."""

    def make() -> Instruments:
        meter = get_meter(
            names.SCOPE,
            _version(),
            meter_provider=meter_provider,
            schema_url=names.SCHEMA_URLS[profile],
        )
        return Instruments(meter, profile)

    return _instruments[profile].get(meter_provider, make)


def replay_log_of(settings: Settings) -> ReplayLog | None:
    """Return the log of the settings, the same object each time; None if they have none."""
    if settings.replay.log is None:
        return None
    # Imported on use: importing structlog is slow.
    from ollama_otel._log.observer import ReplayLog  # noqa: PLC0415

    options: dict[str, Any] = {
        "bodies": settings.replay.bodies,
        "media": settings.replay.media,
        "redactors": settings.content.redactors,
        "max_size": settings.replay.max_size,
        "max_age": settings.replay.max_age,
        "keep": settings.replay.keep,
    }
    key = (os.path.abspath(settings.replay.log), *options.values())  # noqa: PTH100 - of any path
    with _lock:
        log = _replay_logs.get(key)
        if log is None or log.is_closed:
            log = _replay_logs[key] = ReplayLog(settings.replay.log, **options)
        return log


def _lenient_settings() -> Settings:
    """Return the settings of the environment, without invalid values."""
    settings = Settings.from_environ(lenient=True)
    try:
        _prices_of(settings)
    except PriceError as error:
        _log.warning("costs are not estimated: %s", error)
        return settings.replace(prices=None)
    return settings


def _prices_of(settings: Settings) -> Prices | None:
    """Return the prices of the settings; None if they name no price file."""
    if settings.cost.prices is None:
        return None
    # Imported on use: few apps have prices.
    from ollama_otel._prices.reading import prices_of  # noqa: PLC0415

    return prices_of(settings.cost.prices)


def build_instrumentation(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    settings: Settings | None = None,
    observers: Sequence[Observer] = (),
    enrichers: Sequence[Enricher] = (),
) -> Instrumentation:
    """Build the instrumentation of calls: spans, metrics, and the features of the settings.

    A provider of None is the global one; settings of None are read from the environment. Clients
    can share the result: `Client(instrumentation=...)`. Raises `PriceError` if the settings name a
    price file that cannot be used.
    """
    settings = settings or _lenient_settings()
    schema_url = names.SCHEMA_URLS[settings.telemetry.profile]
    keeps_content = settings.content.on_spans or settings.content.on_events
    messages = MessageWriter(settings) if keeps_content else None
    tracer = get_tracer(names.SCOPE, _version(), tracer_provider, schema_url=schema_url)
    instruments = _instruments_of(meter_provider, settings.telemetry.profile)
    metric_observer = MetricObserver(instruments, settings)
    all_observers: list[Observer] = [metric_observer]
    replay_log = replay_log_of(settings)
    if replay_log is not None:
        all_observers.append(replay_log)
    if settings.telemetry.log_calls:
        from ollama_otel._telemetry.log_lines import LogLineObserver  # noqa: PLC0415

        all_observers.append(LogLineObserver())
    if settings.content.details_event:
        logger = get_logger(names.SCOPE, _version(), logger_provider, schema_url=schema_url)
        all_observers.append(EventObserver(logger, settings, messages))
    own_enrichers: list[Enricher] = []
    if settings.residency.enabled:
        # Imported on use: it is off by default.
        from ollama_otel._telemetry.residency import residency_enricher  # noqa: PLC0415

        own_enrichers.append(
            residency_enricher(meter_provider, logger_provider, settings, _version())
        )
    counts_prompts = settings.truncation.mode in {"confirm", "check"}
    if settings.truncation.mode != "off":
        # After residency, whose facts it uses. Imported on use: it is off by default.
        from ollama_otel._telemetry.truncation import truncation_enricher  # noqa: PLC0415

        logger = get_logger(names.SCOPE, _version(), logger_provider, schema_url=schema_url)
        own_enrichers.append(truncation_enricher(settings, metric_observer, logger))
    if (prices := _prices_of(settings)) is not None:
        from ollama_otel._enrich.cost import CostEnricher  # noqa: PLC0415
        from ollama_otel._telemetry.cost_metrics import BudgetObserver  # noqa: PLC0415

        own_enrichers.append(CostEnricher(prices))
        all_observers.append(BudgetObserver(instruments.cost, prices))
    all_observers += observers
    logs = [each for each in all_observers if isinstance(each, LoggingObserver)]
    instruments.losses.update(log.losses() for log in logs)
    instruments.backlogs.update(log.backlog() for log in logs)
    # Open calls have to end at exit before the providers export pending data.
    _process.precede_at_exit()
    return Instrumentation(
        tracing=SpanTracing(tracer, settings, messages),
        enrichers=(*own_enrichers, *enrichers),
        observers=tuple(all_observers),
        agents=AgentTelemetry(tracer, instruments, settings, messages),
        is_suppressed=_is_suppressed,
        keeps_content=keeps_content,
        keeps_request=counts_prompts or any(log.keeps_request for log in logs),
        cold_start_threshold=settings.telemetry.cold_start_threshold,
        queue_threshold=settings.telemetry.queue_threshold,
    )


def _is_suppressed() -> bool:
    return open_calls.is_closed() or not is_instrumentation_enabled()


_LookUp = tuple[Callable[[], object], Callable[[], object]]
"""A function of the API, and a weak reference to the provider that it returned."""
_AT_FIRST: Final[_LookUp] = (object, object)
"""Never equal to a provider, so that the first call takes the slow path without a further test."""


class _Following:
    """Builds an instrumentation, and builds it again when a global provider is replaced.

    A test suite may give each test its own global providers. Tracers and instruments stay with
    the provider that made them, so those of the first test would record nothing in the second.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Raises `SettingsError` for settings that cannot be used."""
        settings = arguments.get("settings") or _lenient_settings()
        self._arguments = {**arguments, "settings": settings}
        # Each look-up costs time on every call, so unnecessary ones are skipped.
        sends_logs = (
            settings.content.details_event
            or settings.residency.enabled
            or settings.truncation.mode != "off"
        )
        self._look_ups: list[Callable[[], object]] = []
        if arguments.get("tracer_provider") is None:
            self._look_ups.append(get_tracer_provider)
        if arguments.get("meter_provider") is None:
            self._look_ups.append(get_meter_provider)
        if arguments.get("logger_provider") is None and sends_logs:
            self._look_ups.append(get_logger_provider)
        self._settings = settings
        self._uses_globals = not (
            arguments.get("tracer_provider") or arguments.get("meter_provider")
        )
        found, instrumentation = self._build()
        self._built = [_AT_FIRST, *found], instrumentation
        _all_following.add(self)
        _process.at_fork(after_in_child=_reset_after_fork)

    def begin_anew(self) -> None:
        """Treat the next call as the first one, as in a forked process."""
        found, instrumentation = self._built
        if _AT_FIRST not in found:
            self._built = [_AT_FIRST, *found], instrumentation

    def _build(self) -> tuple[list[_LookUp], Instrumentation]:
        # Weak, so that `PerProvider` notices when the API has replaced the stand-in.
        found: list[_LookUp] = [(each, weakref.ref(each())) for each in self._look_ups]
        return found, build_instrumentation(**self._arguments)

    def __call__(self) -> Instrumentation:
        """Return the instrumentation for the providers that are global now."""
        found, instrumentation = self._built
        for look_up, provider in found:
            if look_up() is not provider():
                return self._again()
        return instrumentation

    def _again(self) -> Instrumentation:
        # Two threads may be here at once: the results record the same, and the last stays.
        found, instrumentation = self._built
        if _AT_FIRST in found:
            first_call.prepare(self._settings, uses_globals=self._uses_globals)
            self._built = found[1:], instrumentation
            return self()
        self._built = self._build()
        return self._built[1]


_all_following: weakref.WeakSet[_Following] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for each in _all_following:
        each.begin_anew()


def _process_default() -> Instrumentation:
    global _default  # noqa: PLW0603 - the default of the process
    if _default is None:
        _default = _Following({})
    return _default()


def use_by_default(
    settings: Settings,
    observers: Sequence[Observer] = (),
    enrichers: Sequence[Enricher] = (),
) -> None:
    """Set the default of all clients that have no instrumentation of their own."""
    global _default  # noqa: PLW0603
    _default = _Following({"settings": settings, "observers": observers, "enrichers": enrichers})


def instrumentation_for(options: InstrumentationOptions) -> Callable[[], Instrumentation]:
    """Return a function that returns the instrumentation to use for a call.

    Without options it returns the process's default, which `configure` can change later. A provider
    that is not given is the one that is global at the time of the call. Raises `SettingsError` if
    `instrumentation` is combined with other options, and TypeError for a keyword that is not one
    of `InstrumentationOptions`.
    """
    known = InstrumentationOptions.__annotations__.keys()
    if unknown := sorted(options.keys() - known):
        found = ", ".join(name + did_you_mean(name, known) for name in unknown)
        raise TypeError(
            f"unexpected keywords: {found}; the keywords are {', '.join(sorted(known))}"
        )
    given: Any = {name: value for name, value in options.items() if value not in (None, (), [])}
    instrumentation: Instrumentation | None = given.pop("instrumentation", None)
    if instrumentation is not None and given:
        raise SettingsError(f"give either instrumentation or {', '.join(sorted(given))}, not both")
    if instrumentation is None and not given:
        return _process_default
    return _Following(given) if instrumentation is None else lambda: instrumentation
