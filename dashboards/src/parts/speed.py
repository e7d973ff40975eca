"""Panels on the speed of models: prefill, decode, and what is on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.busiest import busiest_plain
from dashboards.src.colors import GPU_SHARE
from dashboards.src.panels import Column, Panel, Target, Text, graph, table
from dashboards.src.parts.latencies import (
    OF_PLAIN_SERIES,
    OF_ROW,
    OF_SERIES,
    PLAIN_MODEL,
)
from dashboards.src.parts.models import of_busiest
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import MODEL, by_plain_model, highest
from dashboards.src.speed import (
    DECODE_RATE,
    DECODE_RATE_OF_RANGE,
    DECODE_TIME,
    PREFILL_RATE,
    PREFILL_TIME,
    TIME_PER_TOKEN,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows

__all__ = ["SPEED"]


SPEED: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Decode rate by model",
            means="Tokens generated per second of generation, mean of the calls: the speed at "
            "which one response appears. The eight models with most calls.",
            do="A sudden drop: see the GPU share; if it is unchanged, other work or concurrent "
            "calls use the GPU.",
        ),
        of_busiest(DECODE_RATE),
        unit="suffix:tokens/s",
        links=OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Time per output token by model",
            means="Seconds of generation per generated token, mean of the calls; the eight models "
            "with most calls.",
            do="It rises with concurrent calls, as they share the GPU, and when a part of the "
            "model is on the CPU.",
        ),
        of_busiest(TIME_PER_TOKEN),
        unit="s",
        links=OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="GPU share by model",
            means="Fraction of the model that is in GPU memory: 100 % is all of it. The lowest "
            "of the servers; the eight models with most calls. 0 % is normal on a machine without "
            "a GPU.",
            do="Below 100 %: the rest runs on the CPU, and the decode rate drops steeply. Below "
            "10 %: only buffers are on the GPU. Lower `num_ctx`, use a smaller quantization, or "
            "free GPU memory.",
            no_value="none of the models in memory, or no server watched",
        ),
        Target(
            query=busiest_plain(
                highest(
                    by_plain_model(
                        Q.gauge(rows.GPU_SHARE, by=(names.MODEL_NAME,), how="min"),
                        names.MODEL_NAME,
                    )
                )
            ),
            legend=PLAIN_MODEL,
        ),
        unit="percentunit",
        maximum=1,
        links=OF_PLAIN_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Prefill time per call by model",
            means="Mean time per call that the server spent on evaluating the prompt; the eight "
            "models with most calls.",
            do="Rising: prompts became longer, or their beginnings differ, so that the server "
            "cannot use its cache.",
        ),
        of_busiest(PREFILL_TIME),
        unit="s",
        links=OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Decode time per call by model",
            means="Mean time per call that the server spent on generating tokens; the eight models "
            "with most calls.",
            do="Rising at the same decode rate: responses became longer. Set `num_predict`, or "
            "ask for shorter responses.",
        ),
        of_busiest(DECODE_TIME),
        unit="s",
        links=OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Prefill rate by model (estimate)",
            means="Prompt tokens per second of prompt evaluation. An estimate: too high if the "
            "server cached part of a prompt, as it counts cached tokens, too. The eight models "
            "with most calls.",
            do="Falling: longer prompts without a common prefix, or the model left the GPU.",
        ),
        of_busiest(PREFILL_RATE),
        unit="suffix:tokens/s",
        links=OF_SERIES,
        width=8,
    ),
    table(
        Text(
            title="Decode rate against GPU share",
            means="Decode rate of each model over the time range, with its current GPU share "
            "and context length. A model that is not in memory now has neither. `:latest` is "
            "omitted from names.",
            do="A slow model with a GPU share below 100 % is slow for that reason. A slow model "
            "that is entirely on the GPU is large, or shares the GPU.",
        ),
        {
            MODEL: Column(title="Model", links=OF_ROW, is_name=True),
            "rate": Column(
                title="Decode rate",
                query=highest(by_plain_model(DECODE_RATE_OF_RANGE, names.REQUEST_MODEL)),
                unit="suffix:tokens/s",
                decimals=1,
            ),
            "share": Column(
                title="GPU share",
                query=highest(
                    by_plain_model(
                        Q.gauge(rows.GPU_SHARE, by=(names.MODEL_NAME,), how="min"),
                        names.MODEL_NAME,
                    )
                ),
                unit="percentunit",
                decimals=0,
                steps=GPU_SHARE,
            ),
            "context": Column(
                title="Context",
                query=highest(
                    by_plain_model(
                        Q.gauge(rows.CONTEXT_LENGTH, by=(names.MODEL_NAME,), how="max"),
                        names.MODEL_NAME,
                    )
                ),
                unit="locale",
                decimals=0,
            ),
        },
        sort="Decode rate",
        height=7,
    ),
)
