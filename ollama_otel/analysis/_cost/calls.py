"""The calls of a period, each with its cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

import numpy as np

from ollama_otel._facts import FACTS
from ollama_otel._prices.values import Prices
from ollama_otel.analysis._cost.columns import (
    AT_SERVER,
    COMPUTED,
    LEFT_OUT,
    MODEL,
    SERVER,
    TO_SERVER,
    Codes,
    Table,
    codes_of,
    floats_of,
    seconds_of,
)
from ollama_otel.analysis._cost.grouping import days_of, expression_of, model_codes
from ollama_otel.analysis._cost.machines import Segments, SharedCost, segments_of, share_cost
from ollama_otel.analysis._cost.power import Measured
from ollama_otel.analysis._cost.sharing import Array
from ollama_otel.analysis._store.calls import Calls
from ollama_otel.errors import AnalysisError, PriceError

__all__ = ["CostedCalls", "MachineShare", "costed_calls", "left_out"]

_CACHED: Final = "cached_input_tokens"
_HAS_CACHED: Final = any(each.name == _CACHED for each in FACTS.columns())
"""Whether logs have the number of cached input tokens, as with some dialects."""
_QUEUE: Final = 0.05
"""Seconds; less is overhead of the server, not a wait."""
_COLUMNS: Final[Mapping[str, str]] = {
    "at_server": SERVER,
    "started_at": "started_at",
    "began": AT_SERVER,
    "ended": TO_SERVER,
    "model": MODEL,
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "prompt_eval_duration": "prompt_eval_duration",
    "eval_duration": "eval_duration",
    "is_embedding": "CASE WHEN operation IN ('embed', 'embeddings') THEN 1 ELSE 0 END",
} | ({_CACHED: _CACHED} if _HAS_CACHED else {})


@dataclass(frozen=True, kw_only=True)
class MachineShare:
    """The calls of one machine, and their cost."""

    name: str
    calls: Array
    """Places of its calls among all."""
    segments: Segments
    shared: SharedCost
    measured: float
    """Seconds of the period with measured energy."""


@dataclass(frozen=True, kw_only=True)
class CostedCalls:
    """Calls and their cost, as columns; NaN is unknown."""

    table: Table
    start: float
    """Seconds since the epoch, as `end` and `started_at`."""
    end: float
    started_at: Array
    models: Codes
    servers: Codes
    input_tokens: Array
    output_tokens: Array
    cached_tokens: Array | None
    gpu_seconds: Array
    machine: Array
    energy: Array
    idle: Array
    joules: Array
    to_input: Array
    """Cost of the input; NaN if the timings are unknown."""
    machines: tuple[MachineShare, ...]

    @cached_property
    def cost(self) -> Array:
        """Machine, energy and idle share."""
        total: Array = self.machine + self.energy + self.idle
        return total

    @cached_property
    def days(self) -> Codes:
        """The day on which each call began, in UTC."""
        return days_of(self.started_at)


def costed_calls(
    source: Calls,
    prices: Prices,
    *,
    groups: Iterable[str] = (),
    period: tuple[datetime | None, datetime | None] = (None, None),
    measured: Mapping[str, Measured] | None = None,
) -> CostedCalls:
    """Read the calls that machines computed in a period, and share the machines' costs.

    `groups` are read as further columns, named `group_0` and so on. `measured` has the energy of
    machines by their names. Raises `PriceError` if a price or a machine is missing, and
    `AnalysisError` if no machine computed a call.
    """
    table = _read(source, list(groups), period)
    if not len(table):
        raise AnalysisError(
            "expected calls that a machine computed, found none in this period: nothing has a cost"
        )
    started_at = seconds_of(table, "started_at")
    began = started_at + floats_of(table, "began")
    ended = started_at + floats_of(table, "ended")
    start, end = (None if each is None else each.timestamp() for each in period)
    start = float(started_at.min()) if start is None else start
    end = float(ended.max()) if end is None else end
    servers = codes_of(table, "at_server")
    machines = tuple(
        _share(name, places, prices, (began, ended), (start, end), (measured or {}).get(name))
        for name, places in _places(servers, prices).items()
    )
    began_inside = started_at >= start
    tokens = {
        name: np.where(began_inside, floats_of(table, name), np.nan)
        for name in ("input_tokens", "output_tokens")
    }
    return CostedCalls(
        table=table,
        start=start,
        end=end,
        started_at=started_at,
        models=model_codes(codes_of(table, "model")),
        servers=servers,
        cached_tokens=floats_of(table, _CACHED) if _HAS_CACHED else None,
        to_input=_to_input(table),
        machines=machines,
        **tokens,
        **_joined(machines, len(table)),
    )


def left_out(
    source: Calls, period: tuple[datetime | None, datetime | None] = (None, None)
) -> tuple[dict[str, int], int]:
    """Return the number of inference calls without cost, by reason.

    Also return the number of calls whose time on the machine begins after an estimated wait.
    """
    conditions = [*LEFT_OUT.values(), f"{COMPUTED} AND queue_estimate > {_QUEUE}"]
    counts = ", ".join(
        f"SUM(CASE WHEN {condition} THEN 1 ELSE 0 END) AS count_{number}"
        for number, condition in enumerate(conditions)
    )
    where, parameters = _inside(period)
    row = source.query(f"SELECT {counts} FROM calls{where}", **parameters)
    *left, queues = (int(column[0].as_py() or 0) for column in row.columns)
    return {name: count for name, count in zip(LEFT_OUT, left, strict=True) if count}, queues


def _read(
    source: Calls, groups: list[str], period: tuple[datetime | None, datetime | None]
) -> Table:
    columns = {**_COLUMNS, **{f"group_{n}": expression_of(each) for n, each in enumerate(groups)}}
    chosen = ", ".join(f"{expression} AS c_{name}" for name, expression in columns.items())
    where, parameters = _inside(period, COMPUTED)
    table: Table = source.query(f"SELECT {chosen} FROM calls{where}", **parameters)
    return table.rename_columns([name.removeprefix("c_") for name in table.column_names])


def _inside(
    period: tuple[datetime | None, datetime | None], *conditions: str
) -> tuple[str, dict[str, datetime]]:
    """Return the condition of the calls that run in a period, and its parameters."""
    start, end = period
    all_conditions = [*conditions]
    parameters: dict[str, datetime] = {}
    if start is not None:
        all_conditions.append("COALESCE(ended_at, started_at) > $start")
        parameters["start"] = start.astimezone(UTC).replace(tzinfo=None)
    if end is not None:
        all_conditions.append("started_at < $end")
        parameters["end"] = end.astimezone(UTC).replace(tzinfo=None)
    where = " AND ".join(f"({each})" for each in all_conditions)
    return (f" WHERE {where}" if where else ""), parameters


def _places(servers: Codes, prices: Prices) -> dict[str, Array]:
    """Return the places of the calls of each machine, by its name."""
    machines = {text: prices.machine_of(text) for text in servers.texts}
    if unknown := sorted(text for text, machine in machines.items() if machine is None):
        raise PriceError(
            f"the price file has no machine with the server {', '.join(unknown)}: add it to the "
            "servers of a [[machine]]"
        )
    if (servers.numbers < 0).any():
        raise PriceError("the log has calls without the address of their server")
    names = servers.renamed({text: machine.name for text, machine in machines.items() if machine})
    return {name: np.flatnonzero(names.of(name)) for name in names.texts}


def _share(
    name: str,
    places: Array,
    prices: Prices,
    spans: tuple[Array, Array],
    period: tuple[float, float],
    measured: Measured | None,
) -> MachineShare:
    machine = next(each for each in prices.machine if each.name == name)
    began, ended = (each[places] for each in spans)
    segments = segments_of(machine, period, (began, ended), measured)
    return MachineShare(
        name=name,
        calls=places,
        segments=segments,
        shared=share_cost(began - period[0], ended - period[0], segments),
        measured=0.0 if measured is None else measured.inside(*period),
    )


def _joined(machines: Iterable[MachineShare], count: int) -> dict[str, Array]:
    """Return the amounts of the calls of all machines, in the order of the calls."""
    of = {"gpu_seconds": "seconds", **{x: x for x in ("machine", "energy", "idle", "joules")}}
    joined = {name: np.zeros(count) for name in of}
    for machine in machines:
        for name, field in of.items():
            joined[name][machine.calls] = getattr(machine.shared, field)
    return joined


def _to_input(table: Table) -> Array:
    """Return the input's share of each call's cost, by the server's timings."""
    prompt, answer = (floats_of(table, f"{name}eval_duration") for name in ("prompt_", ""))
    both = prompt + answer
    part = np.divide(prompt, both, out=np.full(len(both), np.nan), where=both > 0)
    return np.where(floats_of(table, "is_embedding") > 0, 1.0, part)
