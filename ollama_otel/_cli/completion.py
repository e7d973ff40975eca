"""The command `completion`: prints a completion script for a shell."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import Final, NamedTuple

from ollama_otel._cli import commands

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Prints a script with which a shell completes commands, options and file names. Load it in the
start-up file of the shell:

  bash  ~/.bashrc                    eval "$(ollama-otel completion bash)"
  zsh   ~/.zshrc, after compinit     eval "$(ollama-otel completion zsh)"
  fish  ~/.config/fish/config.fish   ollama-otel completion fish | source
"""
_BASH: Final = """\
_ollama_otel() {{
    local path="" word i current="${{COMP_WORDS[COMP_CWORD]}}"
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${{COMP_WORDS[i]}}"
        case "$path/$word" in
            {paths}) path="$path/$word" ;;
        esac
    done
    local words="" options=""
    case "$path" in
{cases}
    esac
    COMPREPLY=()
    case "$current" in
        -*) COMPREPLY=($(compgen -W "$options" -- "$current")) ;;
        *) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    esac
}}
complete -o default -F _ollama_otel ollama-otel
"""
_ZSH: Final = "autoload -U +X bashcompinit && bashcompinit\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    nodes = list(_nodes(commands.parser(), ()))
    if arguments.shell == "fish":
        print("\n".join(_fish(nodes)))
    else:
        print((_ZSH if arguments.shell == "zsh" else "") + _bash(nodes), end="")
    return 0


class _Node(NamedTuple):
    """The possible words after the commands of `path`, each with its help."""

    path: tuple[str, ...]
    words: dict[str, str]
    options: dict[str, str]


def _nodes(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[_Node]:
    if isinstance(parser, commands.CommandParser):
        parser.load()
    options: dict[str, str] = {}
    words: dict[str, str] = {}
    below: dict[str, tuple[str, argparse.ArgumentParser]] = {}
    # argparse has no public way to list the arguments of a parser.
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {each.dest: each.help or "" for each in action._get_subactions()}  # noqa: SLF001
            below = {name: (helps[name], child) for name, child in action.choices.items()}
        elif not action.option_strings:
            words |= dict.fromkeys(action.choices or (), "")
        elif action.help != argparse.SUPPRESS:
            text = (action.help or "").replace("%%", "%").partition(" (default")[0]
            options |= dict.fromkeys(action.option_strings, text)
    words |= {name: text for name, (text, _) in below.items()}
    yield _Node(path, words, options)
    for name, (_, child) in below.items():
        yield from _nodes(child, (*path, name))


def _bash(nodes: list[_Node]) -> str:
    cases = (
        f'        "{_joined(node)}") words="{" ".join(node.words)}"'
        f' options="{" ".join(node.options)}" ;;'
        for node in nodes
    )
    paths = " | ".join(_joined(node) for node in nodes if node.path)
    return _BASH.format(paths=paths, cases="\n".join(cases))


def _joined(node: _Node) -> str:
    return "".join(f"/{name}" for name in node.path)


def _fish(nodes: list[_Node]) -> Iterator[str]:
    for node in nodes:
        seen = [f"__fish_seen_subcommand_from {name}" for name in node.path]
        if node.words:
            seen.append(f"not __fish_seen_subcommand_from {' '.join(node.words)}")
        line = f"complete -c ollama-otel -n {shlex.quote('; and '.join(seen))}"
        for name, text in node.words.items():
            yield f"{line} -f -a {name} -d {shlex.quote(text)}"
        for name, text in node.options.items():
            kind = "-l" if name.startswith("--") else "-s"
            yield f"{line} {kind} {name.lstrip('-')} -d {shlex.quote(text)}"
