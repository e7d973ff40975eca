"""Reads the metrics of this library from the text that Prometheus scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import GENAI_INSTRUMENTS, Instrument
from ollama_otel._telemetry.metric_names import label_name, scraped_name
from ollama_otel._top.readings import ModelKey, Scrape, ScrapedModel
from ollama_otel._top.servers import server_name
from ollama_otel._wire.model_names import key_of
from ollama_otel.errors import MissingExtraError

__all__ = ["check_installed", "read_scrape"]


class _Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float

    def label(self, attribute: str) -> str | None:
        return self.labels.get(label_name(attribute))

    @property
    def server(self) -> str | None:
        return server_name(self.label(names.SERVER_ADDRESS), self.label(names.SERVER_PORT))


def _names_of(*instruments: Instrument | None, suffix: str = "") -> frozenset[str]:
    return frozenset(f"{scraped_name(row)}{suffix}" for row in instruments if row is not None)


_GENAI: Final = tuple(GENAI_INSTRUMENTS.values())
_DURATIONS: Final = (
    *(row for each in _GENAI for row in (each.inference_duration, each.embeddings_duration)),
    rows.MANAGEMENT_DURATION,
)
_FIRSTS: Final = tuple(each.time_to_first_chunk for each in _GENAI)
_ENDED: Final = _names_of(*_DURATIONS, suffix="_count")
_DURATION: Final = _names_of(*_DURATIONS, suffix="_sum")
_FIRST: Final = _names_of(*_FIRSTS, suffix="_sum")
_FIRST_COUNT: Final = _names_of(*_FIRSTS, suffix="_count")
_WAIT: Final = _names_of(rows.QUEUE_DURATION, suffix="_sum")
_WAIT_COUNT: Final = _names_of(rows.QUEUE_DURATION, suffix="_count")
_TOKENS: Final = _names_of(*(each.token_usage for each in _GENAI), suffix="_sum")
_INPUT: Final = _names_of(*(each.input_tokens for each in _GENAI), suffix="_sum")
_OUTPUT: Final = _names_of(*(each.output_tokens for each in _GENAI), suffix="_sum")
_ACTIVE: Final = _names_of(rows.ACTIVE_REQUESTS)
_LIMITER: Final = _names_of(rows.LIMITER_WAITING)
_LOADS: Final = _names_of(rows.LOADS)
_UP: Final = _names_of(rows.SERVER_UP)
_MEMORY: Final = _names_of(rows.MEMORY_USAGE)
_GPU: Final = _names_of(rows.GPU_SHARE)
_CONTEXT: Final = _names_of(rows.CONTEXT_LENGTH)
_EXPIRY: Final = _names_of(rows.EXPIRY)


def check_installed() -> None:
    """Raise `MissingExtraError` if a scrape cannot be parsed."""
    try:
        import prometheus_client.parser  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(
            "reading a scrape endpoint needs a package that is not installed: "
            "pip install 'ollama_otel[prometheus]'"
        ) from error


def read_scrape(text: str) -> Scrape | None:
    """Read a scrape; None if it has no metric of this library. Raises ValueError if malformed."""
    from prometheus_client.parser import (  # noqa: PLC0415 - an extra
        text_string_to_metric_families,
    )

    samples = [
        _Sample(sample.name, sample.labels, float(sample.value))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    if not any(sample.name.startswith(("ollama_", "gen_ai_")) for sample in samples):
        return None
    tokens = _Sums(samples, _TOKENS, names.TOKEN_TYPE)
    waiting = [sample.value for sample in samples if sample.name in _LIMITER]
    return Scrape(
        in_flight={key: round(count) for key, count in _by_model(samples, _ACTIVE).items()},
        ended=_by_model(samples, _ENDED),
        outcomes=_Sums(samples, _ENDED, names.OUTCOME),
        duration=_total(samples, _DURATION),
        input_tokens=tokens["input"] + _total(samples, _INPUT),
        output_tokens=tokens["output"] + _total(samples, _OUTPUT),
        first=_total(samples, _FIRST),
        first_count=_total(samples, _FIRST_COUNT),
        wait=_total(samples, _WAIT),
        wait_count=_total(samples, _WAIT_COUNT),
        limiter_waiting=round(sum(waiting)) if waiting else None,
        loads=_by_model(samples, _LOADS, names.MODEL_NAME),
        models=dict(_models(samples)),
        watches=any(sample.name in _UP for sample in samples),
    )


class _Sums(Counter[str]):
    """The sum of samples for each value of a label."""

    def __init__(self, samples: Iterable[_Sample], of: frozenset[str], attribute: str) -> None:
        super().__init__()
        for sample in samples:
            if sample.name in of:
                self[sample.label(attribute) or ""] += sample.value  # type: ignore[assignment]


def _total(samples: Iterable[_Sample], of: frozenset[str]) -> float:
    return sum(sample.value for sample in samples if sample.name in of)


def _by_model(
    samples: Iterable[_Sample], of: frozenset[str], attribute: str = names.REQUEST_MODEL
) -> dict[ModelKey, float]:
    found: dict[ModelKey, float] = {}
    for sample in samples:
        if sample.name in of:
            model = sample.label(attribute)
            key = sample.server, key_of(model) if model else ""
            found[key] = found.get(key, 0.0) + sample.value
    return found


def _models(samples: Iterable[_Sample]) -> Iterator[tuple[ModelKey, ScrapedModel]]:
    samples = [sample for sample in samples if sample.label(names.MODEL_NAME)]
    memory = _by_model(samples, _MEMORY, names.MODEL_NAME)
    gpu = _by_model(samples, _GPU, names.MODEL_NAME)
    context = _by_model(samples, _CONTEXT, names.MODEL_NAME)
    expiry = _by_model(samples, _EXPIRY, names.MODEL_NAME)
    for key in memory.keys() | gpu.keys() | context.keys():
        yield (
            key,
            ScrapedModel(
                name=key[1],
                memory=round(memory[key]) if key in memory else None,
                gpu_share=gpu.get(key),
                context_length=round(context[key]) if key in context else None,
                expires_in=expiry.get(key),
            ),
        )
