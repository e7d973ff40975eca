"""For each rule: calls that show its case, and calls that nearly do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from msgspec.structs import replace

from .synthetic import Call, call, left

WARM = 0.01
COLD = 2.0
PAUSE = 400.0
"""Longer than Ollama's own keep_alive."""


def mixed_num_ctx(load: float = COLD, *, cause: str | None = None) -> list[Call]:
    """Two programs that take turns, with contexts of 2048 and 8192."""
    return [
        call(number * 10, options={"num_ctx": 2048 * 4 ** (number % 2)}, load=load,
             duration=load + 1, residency={"reload_cause": cause})
        for number in range(10)
    ] + [call(200, options={"num_ctx": 8192}, load=WARM)]  # fmt: skip


def other_num_ctx(*, first: float = 0.0, **facts: Any) -> list[Call]:
    """The log has one num_ctx only, and the model is loaded again because of it."""
    reload = {"reload_cause": "num_ctx", "reload_before": "4096", "reload_after": "8192"}
    residency = {"context_length": 8192, "gpu_share": 1.0}
    return [
        call(
            first + number * 10,
            options={"num_ctx": 8192},
            load=COLD if number % 2 else WARM,
            duration=3.0 if number % 2 else 1.0,
            residency={**residency, **(reload if number % 2 else {}), **facts},
        )
        for number in range(12)
    ]


def keep_alive(
    pause: float = PAUSE, *, sent: str | None = None, cause: str | None = None, count: int = 6
) -> list[Call]:
    """A call now and then; each waits for the model."""
    cold = [
        call(
            number * (pause + 3.0),
            load=COLD,
            duration=3.0,
            request={"keep_alive": sent},
            residency={"reload_cause": cause},
        )
        for number in range(count)
    ]
    return [*cold, call(count * (pause + 3.0), load=WARM)]


def cut(certainty: str = "confirmed", count: int = 2) -> list[Call]:
    known = certainty == "confirmed"
    return [
        call(
            number,
            options={"num_ctx": 2048},
            response={"input_tokens": 1026},
            truncation={
                "kind": "prompt_cut",
                "certainty": certainty,
                "context_length": 2048,
                "prompt_tokens": 3000 if known else None,
                "lost_tokens": 1974 if known else None,
            },
        )
        for number in range(count)
    ]


def large_context(count: int = 20, *, num_ctx: int = 32_768, tokens: int = 900) -> list[Call]:
    return [
        call(number * 5, options={"num_ctx": num_ctx}, response={"input_tokens": tokens})
        for number in range(count)
    ]


def on_cpu(share: float = 0.4, *, full: bool = True) -> list[Call]:
    """Four slow calls; as many that ran wholly on the GPU if `full`."""
    slow = [
        call(
            number * 20,
            duration=11.0,
            response={"eval_duration": 10.0, "output_tokens": 100},
            residency={"gpu_share": share, "context_length": 4096},
        )
        for number in range(4)
    ]
    fast = [
        call(
            100 + number * 20,
            duration=2.0,
            response={"eval_duration": 1.0, "output_tokens": 100},
            residency={"gpu_share": 1.0, "context_length": 4096},
        )
        for number in range(4)
    ]
    return slow + (fast if full else [])


def tools(count: int = 6, *, conversation: str | None = "a", other: str = "search") -> list[Call]:
    """A run whose rounds call `search`, and every second one `other`."""
    return [
        call(
            number,
            conversation=conversation,
            request={"tools": ("search", "read")},
            response={"tool_calls": (other if number % 2 else "search",)},
        )
        for number in range(count)
    ] + [call(count, conversation=conversation, request={"tools": ("search", "read")})]


def retries(attempts: int = 3, *, apart: float = 2.0) -> list[Call]:
    """Calls that resilience sent again."""
    return [
        call(
            number * apart,
            duration=5.0,
            resilience={
                "attempts": attempts,
                "delay": 4.0 if attempts > 1 else 0.0,
                "retried": ("server_busy",) * (attempts - 1),
            },
        )
        for number in range(4)
    ]


def own_retries(wait: float = 0.5, *, error: str = "server_busy", size: int = 0) -> list[Call]:
    """A program that sends a failed call again, at once; `size` makes each request longer."""
    failed: dict[str, Any] = {
        "outcome": "failed",
        "ending": "error_status",
        "error_type": error,
        "http_status": 503,
    }
    made = [
        left(number * (wait + 0.1), duration=0.1, request={"size": 500 + size * number}) for number in range(8)
    ]  # fmt: skip
    calls = [(start, replace(record, **failed)) for start, record in made]
    return [*calls, call(8 * (wait + 0.1), request={"size": 500 + size * 8})]


def cancels(
    count: int = 4, *, apart: float = 1.0, users: int = 1, between: bool = False
) -> list[Call]:
    """Calls that are given up, each `apart` from the one before."""
    made = []
    for number in range(count):
        user = f"u{number % users}"
        made.append(left(number * apart, duration=0.4, user=user))
        if between:
            made.append(call(number * apart + 0.5, duration=0.4, user=user))
    return [*made, call(count * apart, user="u0")]


def conversations(
    *,
    lost: bool | Collection[int] = True,
    together: bool = True,
    new: int = 50,
    tokens: int = 1000,
    load: float = WARM,
    turns: int = 4,
) -> list[Call]:
    """Two conversations that take turns, or follow each other; 1 ms for each token that is read.

    `lost`: whether later turns lose the cache, or which do.
    """
    made = []
    for conversation in range(2):
        for turn in range(turns):
            at = turn * 20 + conversation * 10 if together else conversation * 500 + turn * 20
            read = tokens + turn * (new + 20)
            is_lost = lost if isinstance(lost, bool) else turn in lost
            seconds = (read if is_lost or not turn else new) / 1000
            made.append(
                call(
                    at,
                    conversation=f"c{conversation}",
                    duration=seconds + 1,
                    load=load if turn else WARM,
                    response={
                        "input_tokens": read,
                        "output_tokens": 20,
                        "prompt_eval_duration": seconds,
                    },
                )
            )
    return sorted(made, key=lambda made_call: made_call[0].started_at)


def answers(
    *, long: int = 3, tokens: int = 5000, num_predict: int | None = None, usual: int = 100
) -> list[Call]:
    """Many short answers, and `long` ones of `tokens`."""
    options = {} if num_predict is None else {"num_predict": num_predict}
    short = [
        call(number * 5, response={"output_tokens": usual, "eval_duration": usual / 100})
        for number in range(20)
    ]
    return short + [
        call(
            200 + number * 100,
            options=options,
            duration=tokens / 100 + 1,
            response={"output_tokens": tokens, "eval_duration": tokens / 100},
        )
        for number in range(long)
    ]


def cut_answers(
    count: int = 5, *, num_predict: int = 64, whole: int = 5, **request: Any
) -> list[Call]:
    """Answers that end at num_predict, and others that do not."""
    return [
        call(
            number * 5,
            options={"num_predict": num_predict},
            request=request,
            response={
                "output_tokens": num_predict if number < count else 10,
                "done_reason": "length" if number < count else "stop",
            },
        )
        for number in range(count + whole)
    ]


def json_calls(count: int = 5, *, temperature: float | None = 0.8, json: bool = True) -> list[Call]:
    options = {} if temperature is None else {"temperature": temperature}
    return [
        call(number * 5, options=options, request={"asks_for_json": json})
        for number in range(count)
    ]


SHOWN: dict[str, Callable[[], list[Call]]] = {
    "mixed_num_ctx": mixed_num_ctx,
    "other_num_ctx": other_num_ctx,
    "keep_alive_short": keep_alive,
    "prompt_cut": cut,
    "context_too_large": large_context,
    "model_on_cpu": on_cpu,
    "tool_loop": tools,
    "retry_storm": own_retries,
    "cancels_in_row": cancels,
    "cache_taken": conversations,
    "cache_broken": lambda: conversations(together=False),
    "answer_runaway": answers,
    "answer_cut": cut_answers,
    "json_temperature": json_calls,
}

NEARLY: dict[str, list[Callable[[], list[Call]]]] = {
    "mixed_num_ctx": [
        # The server did not load the model again.
        lambda: mixed_num_ctx(load=WARM),
        # It did so for another reason.
        lambda: mixed_num_ctx(cause="evicted"),
        keep_alive,
        other_num_ctx,
    ],
    "other_num_ctx": [lambda: other_num_ctx(reload_cause="expired"), lambda: mixed_num_ctx(cause="num_ctx")],
    "keep_alive_short": [
        lambda: keep_alive(100.0),
        lambda: keep_alive(sent="1h"),
        lambda: keep_alive(sent="-1"),
        lambda: keep_alive(cause="evicted"),
        lambda: keep_alive(90_000.0),
        lambda: keep_alive(count=3),
        mixed_num_ctx,
    ],
    "prompt_cut": [lambda: cut("suspected", 2), lambda: cut("confirmed", 0) + large_context(3)],
    "context_too_large": [
        lambda: large_context(19),
        lambda: large_context(tokens=9000),
        lambda: large_context(num_ctx=4096),
        lambda: large_context() + cut(),
    ],
    "model_on_cpu": [lambda: on_cpu(1.0), lambda: on_cpu()[2:6]],
    "tool_loop": [
        lambda: tools(5),
        lambda: tools(12, other="read"),
        lambda: tools(12, conversation=None),
    ],
    "retry_storm": [
        lambda: retries(1),
        lambda: retries(apart=70.0),
        lambda: own_retries(20.0),
        lambda: own_retries(error="invalid_request"),
        lambda: own_retries(size=1),
    ],
    "cancels_in_row": [
        lambda: cancels(2),
        lambda: cancels(apart=60.0),
        lambda: cancels(users=3),
        lambda: cancels(between=True),
    ],
    "cache_taken": [
        lambda: conversations(lost=False),
        lambda: conversations(lost={2, 4}, turns=5),
        lambda: conversations(together=False),
        lambda: conversations(new=1500, tokens=200, turns=3),
        lambda: conversations(tokens=20, new=5),
        lambda: conversations(load=COLD),
    ],
    "cache_broken": [
        lambda: conversations(together=False, lost=False),
        lambda: conversations(together=False, lost={2, 4}, turns=5),
        conversations,
        lambda: conversations(together=False, new=1500, tokens=200, turns=3),
        lambda: conversations(together=False, load=COLD),
    ],
    "answer_runaway": [
        lambda: answers(long=2),
        lambda: answers(tokens=499),
        lambda: answers(num_predict=6000),
        lambda: answers(usual=1500),
    ],
    "answer_cut": [
        lambda: cut_answers(4),
        lambda: cut_answers(num_predict=8),
        lambda: cut_answers(whole=30),
    ],
    "json_temperature": [
        lambda: json_calls(4),
        lambda: json_calls(temperature=0.2),
        lambda: json_calls(temperature=None),
        lambda: json_calls(json=False),
    ],
}  # fmt: skip
