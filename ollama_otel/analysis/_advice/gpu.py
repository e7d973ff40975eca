"""Rule about models that run on the CPU, wholly or in part."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.rule import IS_REQUEST, OF_SUBJECT, SUBJECT, Row, Rule, Suggestion

__all__ = ["MODEL_ON_CPU"]

_LEAST: Final = 3
_WHOLE: Final = 0.99
_ON_CPU: Final = 0.1
"""Below this share the model runs on the CPU: buffers stay on the GPU."""

_CONCERNED: Final = f"""
fast AS (
    SELECT {SUBJECT}, exact_quantile(decode_rate, 0.5) AS full_rate
    FROM calls WHERE {IS_REQUEST} AND gpu_share >= {_WHOLE} AND decode_rate > 0
    GROUP BY {OF_SUBJECT} HAVING count(*) >= {_LEAST}
),
requests AS (
    SELECT
        {SUBJECT}, call_id, started_at, duration, eval_duration, output_tokens, decode_rate,
        gpu_share, context_length, option_number(options, 'num_gpu') AS num_gpu
    FROM calls WHERE {IS_REQUEST} AND gpu_share < {_WHOLE}
),
concerned AS (
    SELECT
        r.*, full_rate, duration - eval_duration + output_tokens / nullif(full_rate, 0) AS improved
    FROM requests r LEFT JOIN fast f ON r.host = f.host AND r.model_name = f.model_name
)
"""


def _judge(row: Row) -> Suggestion | None:
    if row["calls"] < _LEAST:
        return None
    name, most = row["model_name"], row["most"]
    is_on_cpu = most < _ON_CPU
    where = (
        f"{name} ran on the CPU"
        if is_on_cpu
        else f"Only {row['least']:.0%} to {most:.0%} of {name} was on the GPU"
    )
    rate = "" if row["rate"] is None else f", at {row['rate']:.1f} tokens/s"
    full = "" if row["full_rate"] is None else f" (entirely on it: {row['full_rate']:.1f} tokens/s)"
    search = "See in the server's log whether Ollama found a GPU. If it did: " if is_on_cpu else ""
    is_sent = row["num_gpu"] is not None and row["num_gpu"] >= 0
    return Suggestion(
        seen=f"{where} in {row['calls']} calls{rate}{full}.",
        change=(
            f"Do not send num_gpu: calls send {row['num_gpu']:.0f}, which keeps layers off the GPU."
            if is_sent
            else f"{search}Make {name} fit: a smaller num_ctx (now {row['given'] or 'unknown'}), "
            "a smaller quantization, a lower OLLAMA_NUM_PARALLEL, or fewer other models in memory."
        ),
        setting="num_gpu" if is_sent else "num_ctx",
        computed=(
            "duration with the output tokens at the median decode rate of the calls that ran "
            "wholly on the GPU"
        ),
    )


MODEL_ON_CPU: Final = Rule(
    kind="model_on_cpu",
    concerned=_CONCERNED,
    measures={
        "least": "min(gpu_share)",
        "most": "max(gpu_share)",
        "rate": "exact_quantile(decode_rate, 0.5)",
        "full_rate": "max(full_rate)",
        "num_gpu": "max(num_gpu)",
        "given": "max(context_length)",
    },
    judge=_judge,
    needs=("residency",),
)
