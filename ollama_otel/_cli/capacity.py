"""The command `capacity`: forecasts how many users the server of a log can take."""

from __future__ import annotations

import argparse
import json
import sys

import msgspec

from ollama_otel._cli.arguments import add_no_color, count, count_from_zero, factor
from ollama_otel._cli.terminal import console_for_text
from ollama_otel._wire.durations import read_keep_alive
from ollama_otel._wire.model_names import short_name
from ollama_otel.errors import AnalysisError

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Forecasts how many users a server can take, from the calls of a log. It learns how fast the server
evaluates prompts, generates and loads models, and how calls slow each other; then it simulates
what Ollama does: slots, queue, loads, evictions. It says how well the simulation reproduces the
recorded calls, and what they do not show.
"""
_EPILOG = """\
A user sends a call, waits for the whole answer, thinks, and sends the next one; the calls are
drawn from the recorded ones.

examples:
  ollama-otel capacity calls.jsonl
  ollama-otel capacity calls.jsonl --ttft 1s --think-time 10s
  ollama-otel capacity calls.jsonl --load 2 --num-parallel 4
  ollama-otel capacity calls.jsonl --decode-speed 2.5 --prefill-speed 4

--json prints one object; its fields are those of `ollama_otel.analysis.CapacityAnswer`, without
the recorded calls. Times are seconds.

exit status:
  0  the forecast is shown
  2  the log cannot be read, or has no call with the server's timings
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Imported on use: it needs the extra `analysis`.
    from ollama_otel._cli.calls_source import add_source  # noqa: PLC0415

    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_source(parser)
    asked = parser.add_argument_group("the question")
    asked.add_argument(
        "--ttft",
        type=_seconds,
        default=2.0,
        metavar="TIME",
        help="limit for the p95 of the time to the first token (default: 2s)",
    )
    asked.add_argument(
        "--think-time",
        type=_seconds,
        metavar="TIME",
        help="mean pause of a user (default: as between recorded calls of a conversation, or 30s)",
    )
    asked.add_argument(
        "--users", type=count, help="number of users, instead of the recorded arrivals"
    )
    asked.add_argument("--seed", type=count_from_zero, default=0, help="seed of the random numbers")
    changed = parser.add_argument_group("changes compared to the log")
    changed.add_argument(
        "--load", type=factor, default=1.0, metavar="FACTOR", help="multiple of the recorded rate"
    )
    changed.add_argument(
        "--num-parallel", type=count, metavar="N", help="OLLAMA_NUM_PARALLEL, slots of a model"
    )
    changed.add_argument(
        "--max-loaded", type=count_from_zero, metavar="N", help="OLLAMA_MAX_LOADED_MODELS"
    )
    changed.add_argument(
        "--max-queue", type=count_from_zero, metavar="N", help="OLLAMA_MAX_QUEUE (default: 512)"
    )
    changed.add_argument(
        "--keep-alive", type=_seconds, metavar="TIME", help="OLLAMA_KEEP_ALIVE (default: 5m)"
    )
    changed.add_argument(
        "--mix",
        type=_share,
        action="append",
        metavar="MODEL=SHARE",
        help="share of the calls of this model; may be repeated",
    )
    changed.add_argument(
        "--prefill-speed", type=factor, default=1.0, metavar="FACTOR", help="another GPU: prompts"
    )
    changed.add_argument(
        "--decode-speed", type=factor, default=1.0, metavar="FACTOR", help="another GPU: generation"
    )
    changed.add_argument(
        "--load-speed", type=factor, default=1.0, metavar="FACTOR", help="another disk: loads"
    )
    changed.add_argument(
        "--memory", type=_bytes, metavar="SIZE", help="memory for models, such as 24GB"
    )
    known = parser.add_argument_group("facts about the server that are not in the log")
    known.add_argument(
        "--recorded-num-parallel",
        type=count,
        metavar="N",
        help="its OLLAMA_NUM_PARALLEL (default: the most calls that were served at once)",
    )
    known.add_argument(
        "--recorded-max-loaded",
        type=count_from_zero,
        metavar="N",
        help="its OLLAMA_MAX_LOADED_MODELS (default: as many as were seen, at least 3 unless "
        "models were evicted)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the forecast."""
    # Imported on use: they need the extra `analysis`.
    from ollama_otel._cli import capacity_view  # noqa: PLC0415
    from ollama_otel._cli.calls_source import opened  # noqa: PLC0415
    from ollama_otel.analysis import Scenario, Workload, capacity  # noqa: PLC0415

    with opened(arguments) as calls:
        workload = Workload.from_calls(
            calls,
            num_parallel=arguments.recorded_num_parallel,
            max_loaded=arguments.recorded_max_loaded,
        )
    think_time = arguments.think_time
    if think_time is None:
        think_time = Scenario().think_time if workload.think_time is None else workload.think_time
    scenario = Scenario(
        load=arguments.load,
        users=arguments.users,
        think_time=think_time,
        num_parallel=arguments.num_parallel,
        max_loaded=arguments.max_loaded,
        max_queue=arguments.max_queue,
        keep_alive=arguments.keep_alive,
        mix=dict(arguments.mix) if arguments.mix else None,
        prefill_speed=arguments.prefill_speed,
        decode_speed=arguments.decode_speed,
        load_speed=arguments.load_speed,
        memory=arguments.memory,
    )
    try:
        found = capacity(
            workload, scenario, time_to_first_token=arguments.ttft, seed=arguments.seed
        )
    except ValueError as error:
        raise AnalysisError(str(error)) from None
    if arguments.json:
        print(json.dumps(msgspec.to_builtins(capacity_view.as_json(found))))
    else:
        console = console_for_text(sys.stdout, no_color=arguments.no_color)
        for part in capacity_view.parts(found):
            console.print(part)
    return 0


def _seconds(text: str) -> float:
    seconds = read_keep_alive(text)
    if seconds is None or seconds < 0.0:
        raise argparse.ArgumentTypeError(f"expected a time such as 2s or 500ms, found {text!r}")
    return seconds


def _share(text: str) -> tuple[str, float]:
    name, separator, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not separator or not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"expected MODEL=SHARE such as llama3.2=0.8, found {text!r}"
        )
    return short_name(name), value


def _bytes(text: str) -> int:
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "GIB": 2**30, "MIB": 2**20}
    number, unit = text.rstrip("BbIiKkMmGgTt"), text.lstrip("0123456789. ").upper()
    try:
        size = float(number) * (units[unit] if unit else 1)
    except (ValueError, KeyError):
        size = 0.0
    if not 1 <= size < 2**63:
        raise argparse.ArgumentTypeError(f"expected a size such as 24GB, found {text!r}")
    return int(size)
