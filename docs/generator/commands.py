"""The reference of the command line: every command with its arguments, and an example of each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final, NamedTuple

from ollama_otel._cli.commands import CommandParser, parser

__all__ = ["EXAMPLES", "VARIABLES", "Page", "commands", "commands_page"]

_HEAD: Final = """\
# Command line

`ollama-otel COMMAND` and `python -m ollama_otel COMMAND` are the same.
`ollama-otel help COMMAND` prints what this page says of a command, and `ollama-otel --version` the version.
A log is a file that `configure(replay_log=...)` wrote, a cassette, or a folder of them.
"""
_STATUSES: Final = """\
## Exit statuses

| Status | Meaning |
| --- | --- |
| 0 | done |
| 1 | done, and something is not as it should be; each command that has this status says what |
| 2 | the command cannot run: a wrong argument, a file that cannot be read, no server |
| 130 | interrupted by Ctrl-C |
| 141 | the reader of the output has closed it, as in `ollama-otel show calls.jsonl \\| head` |
"""
_VARIABLES: Final = """\
## Environment variables

An option overrides its variable.
`demo`, `replay` and `advise --try-model` also read the [settings](settings.md).
"""
_GENERATED: Final = """\
This page is generated: run `python docs/generate.py` after a change to a command in `ollama_otel/_cli/`.
"""
VARIABLES: Final = {
    "OLLAMA_HOST": (
        "`advise`, `demo`, `load`, `replay`, `top`",
        "the server, if `--host` is not given",
    ),
    "OLLAMA_OTEL_REPLAY_LOG": ("`top`", "the log, if no argument is given"),
    "NO_COLOR": ("all", "any value but an empty one: print plain text, as `--no-color` does"),
    "COLUMNS": ("all", "width of the output, in characters; by default that of the terminal"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("`demo`", "a collector that gets the telemetry, too"),
    "OTEL_SDK_DISABLED": ("`demo`", "`true`: the demo has nothing to show, and ends with status 2"),
    "CLICKHOUSE_USER": ("`report`, `advise`, `cost`, `capacity`", "user of a ClickHouse server"),
    "CLICKHOUSE_PASSWORD": ("`report`, `advise`, `cost`, `capacity`", "its password"),
    "PROMETHEUS_URL": ("`dashboards check`", "the Prometheus, if `--prometheus` is not given"),
    "GRAFANA_TOKEN": (
        "`dashboards import`",
        "token of a service account, if `--token` is not given",
    ),
    "GRAFANA_PASSWORD": ("`dashboards import`", "password for `--user`, if it has none"),
    "GRAFANA_ADMIN_PASSWORD": (
        "`dashboards up`",
        "password of the user `admin`, in place of a new one",
    ),
    "XDG_STATE_HOME": (
        "`dashboards up`",
        "folder in which that password is kept, by default `~/.local/state`",
    ),
    "LOCALAPPDATA": ("`dashboards up`", "the same on Windows"),
}
"""Variables that commands read themselves: which commands, and what for."""
EXAMPLES: Final = {
    "show": "show calls.jsonl --slow 5 --sort duration",
    "tail": "tail calls.jsonl --lines 20",
    "top": "top calls.jsonl --host http://127.0.0.1:11434",
    "report": "report calls.jsonl --since 2026-11-23 -o week.html",
    "advise": "advise calls.jsonl --all",
    "cost": "cost calls.jsonl --prices prices.toml --by user",
    "capacity": "capacity calls.jsonl --ttft 2s --users 50",
    "load": "load --model llama3.2 --rates 1,2,4 --repeat 3",
    "diff": "diff calls.jsonl again.jsonl --fail-on outcome,tools",
    "replay": "replay calls.jsonl --model llama3.2=qwen3 --out again.jsonl",
    "serve-replay": "serve-replay calls.jsonl --listen 11500",
    "demo": "demo --model llama3.2",
    "dashboards up": "dashboards up --with-ollama",
    "dashboards down": "dashboards down --volumes",
    "dashboards check": "dashboards check --range 6h --board overview",
    "dashboards export": "dashboards export --out boards",
    "dashboards import": "dashboards import --grafana http://localhost:3000 --user admin",
    "completion": "completion bash",
    "help": "help show",
}
"""One use of each command."""


class Page(NamedTuple):
    """One command: its name with that of its group, and its parser."""

    name: str
    help: str
    parser: argparse.ArgumentParser


def commands(made: argparse.ArgumentParser | None = None, group: str = "") -> Iterator[Page]:
    """Yield every command, a group before those in it."""
    # argparse has no public way to list the arguments of a parser.
    for action in (made or parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._get_subactions()}
            for name, child in action.choices.items():
                assert isinstance(child, CommandParser)
                child.load()
                yield Page(f"{group}{name}", helps[name], child)
                yield from commands(child, f"{group}{name} ")


def commands_page() -> str:
    """Return the page."""
    pages = list(commands())
    index = (f"| [`{each.name}`](#{_slug(each)}) | {each.help} |" for each in pages)
    variables = (f"| `{name}` | {where} | {text} |" for name, (where, text) in VARIABLES.items())
    return "\n".join(
        [
            _HEAD,
            "| Command | What it does |\n| --- | --- |",
            *index,
            "",
            *map(_command, pages),
            _VARIABLES,
            "| Variable | Command | Meaning |\n| --- | --- | --- |",
            *variables,
            "",
            _STATUSES,
            _GENERATED,
        ]
    )


def _slug(page: Page) -> str:
    return f"ollama-otel-{page.name.replace(' ', '-')}"


def _command(page: Page) -> str:
    parts = [
        f"## ollama-otel {page.name}",
        _block("text", _usage(page)),
        page.parser.description or "",
        *_groups(page.parser),
    ]
    if page.name in EXAMPLES:
        parts.append(f"Example:\n\n{_block('sh', f'ollama-otel {EXAMPLES[page.name]}')}")
    if epilog := page.parser.epilog:
        parts.append(_block("text", epilog) if "\n" in epilog else epilog)
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _usage(page: Page) -> str:
    """Write the usage, the options that must be given first; argparse's own differs by version."""
    options = [each for each in page.parser._actions if each.option_strings and each.dest != "help"]
    rest = [each for each in page.parser._actions if not each.option_strings]
    needed = [_form(each) for each in options if each.required]
    free = ["[OPTIONS]"] if len(needed) < len(options) else []
    return " ".join(["ollama-otel", page.name, *needed, *free, *map(_positional, rest)])


def _positional(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return "COMMAND"
    name = _value(action)
    return {"?": f"[{name}]", "*": f"[{name} ...]"}.get(str(action.nargs), name)


def _groups(made: argparse.ArgumentParser) -> Iterator[str]:
    for group in made._action_groups:
        actions = [
            each
            for each in group._group_actions
            if each.dest != "help" and each.help != argparse.SUPPRESS and not _is_group(each)
        ]
        if actions:
            rows = "".join(f"| {_cell(_form(each))} | {_meaning(each)} |\n" for each in actions)
            title = (group.title or "").capitalize()
            yield f"| {title} | Meaning |\n| --- | --- |\n{rows}"


def _is_group(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


def _cell(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _form(action: argparse.Action) -> str:
    """Write an argument as it is given: its names, and what its value stands for."""
    if not action.option_strings:
        return _value(action)
    value = "" if action.nargs == 0 else f" {_value(action)}"
    if action.nargs == "?":
        value = f" [{_value(action)}]"
    return f"{', '.join(action.option_strings)}{value}"


def _value(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return f"{{{','.join(map(str, action.choices))}}}"
    return str(action.metavar or action.dest.upper())


def _meaning(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%").replace("|", "\\|")
