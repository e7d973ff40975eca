"""The command `diff`: what it prints, and its exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_otel._cli import main
from ollama_otel.records import ModelResidency
from tests.replay.call_lines import answer, ask, lines, tool, write

Print = pytest.CaptureFixture[str]
Log = list[list[dict[str, Any]]]


@pytest.fixture
def diff(tmp_path: Path, capsys: Print) -> Callable[..., tuple[int, str]]:
    """Write two logs and compare them; gives exit status and what was printed."""

    def run(before: Log, after: Log, *arguments: str) -> tuple[int, str]:
        logs = [write(tmp_path / "a.jsonl", *before), write(tmp_path / "b.jsonl", *after)]
        status = main(["diff", *map(str, logs), "--no-color", *arguments])
        return status, capsys.readouterr().out

    return run


Diff = Callable[..., tuple[int, str]]


def many(duration: float, count: int = 8) -> Log:
    return [lines(str(number), ask(str(number)), duration=duration) for number in range(count)]


def test_equal_logs_give_status_0_and_no_pairs(diff: Diff) -> None:
    status, text = diff(many(1.0), many(1.0))
    assert status == 0
    assert "8 pairs: 8 identical" in text
    assert "a.jsonl" not in text


def test_all_pairs_are_shown_on_demand(diff: Diff) -> None:
    _, text = diff(many(1.0), many(1.0), "--only", "all")
    assert text.count("jsonl:1 -> b.jsonl:1  identical") == 1
    assert text.count("  identical\n") == 8
    assert "chat m  a.jsonl:1 -> b.jsonl:1  identical" in text


def test_a_changed_text_shows_its_words_and_gives_status_1(diff: Diff) -> None:
    before, after = answer("The sky is blue today."), answer("The sky is green today.")
    status, text = diff([lines(said=before)], [lines(said=after)])
    assert status == 1
    assert "a.jsonl:1 -> b.jsonl:1  text" in text
    assert "The sky is[- blue-]{+ green+} today." in text
    assert "text, 80% the same" in text
    assert "1 pair: 0 identical, 1 text changed" in text
    assert text.endswith("Changed: text\n")


def test_everything_that_changed_in_a_call_is_shown(diff: Diff) -> None:
    before = answer('{"a": 1}', thinking="One.", tool_calls=[tool("f", x=1)])
    after = answer('{"a": 2}', thinking="Two.", tool_calls=[tool("f", x=2)], eval_count=31)
    failed = {"outcome": "failed", "error_type": "incomplete", "error_message": "It ended."}
    asked = ask(format="json")
    other = ask(format="json", model="n")
    status, text = diff([lines("1", asked, before)], [lines("2", other, after, **failed)])
    assert status == 1
    for part in (
        "chat m -> n",
        "outcome, structure, text, thinking, tokens, tools",
        '$.outcome: "completed" -> "failed"',
        "in the second log: It ended.",
        "thinking, 0% the same",
        "[-One.-]{+Two.+}",
        "$.a: 1 -> 2",
        "$[0].arguments.x: 1 -> 2",
        "output tokens 30 -> 31",
        "Changed: outcome, text, structure, tools",
    ):
        assert part in " ".join(text.split())


def test_an_answer_that_is_no_json_is_told(diff: Diff) -> None:
    asked = ask(format="json")
    _, text = diff([lines("1", asked, answer("{}"))], [lines("2", asked, answer("Sorry."))])
    assert "the second answer is not JSON" in text


def test_calls_of_one_log_only_are_listed_and_no_failure_by_default(diff: Diff) -> None:
    before = [lines("1"), lines("2", ask("b"))]
    status, text = diff(before, [lines("1"), lines("3", {"model": "m"}, path="/api/show")])
    assert status == 0
    assert "a.jsonl" in text
    assert "chat m  a.jsonl:3" in text
    assert "show_model m  b.jsonl:3" in text
    assert "1 only before, 1 only after" in text
    assert diff(before, [lines("1")], "--fail-on", "calls")[0] == 1


def test_what_could_not_be_compared_is_said(diff: Diff) -> None:
    before = [lines(bodies=False)]
    status, text = diff(before, [lines("2", changes=["redacted"])], "--only", "all")
    assert status == 0
    assert "same facts, text not compared" in text
    assert "no body in the first log" in text
    assert "redacted in the second log" in text
    assert "1 pair compared by facts only" in text


@pytest.mark.parametrize(
    ("fail_on", "status"),
    [("none", 0), ("outcome,structure", 0), ("text", 1), ("tools, text", 1), ("tokens", 1)],
)
def test_the_exit_status_is_that_of_the_chosen_aspects(
    diff: Diff, fail_on: str, status: int
) -> None:
    before, after = answer("One."), answer("Two.", eval_count=31)
    found, text = diff([lines(said=before)], [lines(said=after)], "--fail-on", fail_on)
    assert found == status
    assert "{+Two.+}" in text


@pytest.mark.parametrize(
    ("before", "after", "count", "options", "status"),
    [
        (1.0, 1.3, 8, [], 1),
        (1.0, 1.3, 8, ["--slower-than", "50"], 0),
        (1.0, 1.1, 8, [], 0),
        (1.0, 1.1, 8, ["--slower-than", "5"], 1),
        (1.3, 1.0, 8, [], 0),
        # Five times slower can be chance: p = 1/16.
        (1.0, 9.0, 5, [], 0),
    ],
)
def test_speed_fails_where_it_is_slower_beyond_chance(
    diff: Diff, before: float, after: float, count: int, options: list[str], status: int
) -> None:
    logs = many(before, count), many(after, count)
    assert diff(*logs, "--fail-on", "speed", *options)[0] == status
    assert diff(*logs, *options)[0] == 0


@pytest.mark.parametrize("columns", [60, 80, 88])
def test_the_summary_fits_a_narrow_terminal(
    diff: Diff, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, text = diff(many(1.0), many(1.5))
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("duration")]
    assert (
        " ".join(cell for row in rows for cell in row)
        == "8 1.00 s 1.50 s +50.0% 1.00 s 1.50 s 0.00781"
    )
    assert max(map(len, text.splitlines())) <= columns


def test_the_summary_has_a_row_for_each_measure(diff: Diff) -> None:
    _, text = diff(many(1.0), many(1.5))
    (row,) = [line.split() for line in text.splitlines() if line.startswith("duration")]
    assert " ".join(row) == "duration 8 1.00 s 1.50 s +50.0% 1.00 s 1.50 s 0.00781"
    assert any(line.startswith("time to first chunk") for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 80


def test_ignored_fields_make_no_difference(diff: Diff) -> None:
    before = [lines("1", ask(options={"seed": 1}, format="json"), answer('{"at": 1}'))]
    after = [lines("2", ask(options={"seed": 2}, format="json"), answer('{"at": 2}'))]
    ignored = ["--ignore", "options.seed", "--ignore", "$.at", "--fail-on", "structure"]
    assert diff(before, after, *ignored)[0] == 0
    assert diff(before, after, *ignored[:2], *ignored[4:])[0] == 1


def test_one_json_object_says_it_all(diff: Diff) -> None:
    status, text = diff(
        [lines("1"), lines("2", ask("b"))], [lines("x", said=answer("No."))], "--json"
    )
    told = json.loads(text)
    assert status == 1
    assert list(told) == ["counts", "summary", "pairs", "only_before", "only_after", "failed"]
    assert told["failed"] == ["text"]
    assert told["counts"]["text_changed"] == 1
    assert told["summary"]["duration"]["median_after"] == 2.0
    (pair,) = told["pairs"]
    assert pair["changed"] == ["text"]
    assert pair["text"]["segments"] == [["removed", "Hi there."], ["added", "No."]]
    assert pair["measures"]["time_to_first_chunk"] == {"before": None, "after": None}
    assert (pair["thinking"], pair["structure"], pair["tools"]) == (None, None, [])
    assert told["only_before"][0]["id"] == "2"


def residency(**facts: Any) -> Log:
    return [lines(residency=ModelResidency(**facts))]


def test_what_the_server_held_stands_below_the_pair(diff: Diff) -> None:
    before = residency(gpu_share=1.0, context_length=4096)
    after = residency(gpu_share=0.4, context_length=4096, reload_cause="num_ctx")
    status, text = diff(before, after, "--only", "all")
    shown = [line.lstrip("├└─ ") for line in text.splitlines()]
    assert "gpu_share 1.0 -> 0.4" in shown
    assert "reload_cause - -> num_ctx" in shown
    assert "context_length" not in text
    # It explains a difference, and is none.
    assert status == 0
    assert "1 pair: 1 identical" in text


def test_json_has_what_the_server_held(diff: Diff) -> None:
    logs = residency(gpu_share=1.0), residency(gpu_share=0.4)
    (pair,) = json.loads(diff(*logs, "--json", "--only", "all")[1])["pairs"]
    assert pair["residency"] == [
        {"path": "$.gpu_share", "kind": "changed", "before": 1.0, "after": 0.4}
    ]
    (pair,) = json.loads(diff([lines()], logs[0], "--json", "--only", "all")[1])["pairs"]
    assert pair["residency"] == []


def test_json_has_the_pairs_that_are_asked_for(diff: Diff) -> None:
    assert json.loads(diff(many(1.0), many(1.0), "--json")[1])["pairs"] == []
    assert len(json.loads(diff(many(1.0), many(1.0), "--json", "--only", "all")[1])["pairs"]) == 8


def test_what_a_model_says_is_no_command_to_the_terminal(diff: Diff) -> None:
    _, text = diff([lines()], [lines("2", said=answer("\x1b[2J\x9b2J[red]x[/red]"))])
    assert r"{+\x1b[2J\x9b2J[red]x[/red]+}" in text


def test_long_changes_are_cut_and_json_has_them_whole(diff: Diff) -> None:
    logs = [lines()], [lines("2", said=answer("x" * 1000))]
    assert "[600 more characters]" in " ".join(diff(*logs)[1].replace("│", " ").split())
    assert "x" * 1000 in diff(*logs, "--json")[1]


def test_logs_with_nothing_in_common_are_an_error(tmp_path: Path, capsys: Print) -> None:
    logs = [write(tmp_path / "a.jsonl", lines()), write(tmp_path / "b.jsonl", lines("2", ask("b")))]
    assert main(["diff", *map(str, logs)]) == 2
    assert "expected requests that are in both logs, found none" in capsys.readouterr().err


def test_a_file_that_is_no_log_is_an_error(tmp_path: Path, capsys: Print) -> None:
    log, other = write(tmp_path / "a.jsonl", lines()), tmp_path / "b.jsonl"
    assert main(["diff", str(log), str(other)]) == 2
    other.write_text("Dear diary\n\n")
    assert main(["diff", str(log), str(other)]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("slower_than", ["nan", "inf", "x"])
def test_what_is_no_percentage_ends_in_argparse(slower_than: str, capsys: Print) -> None:
    with pytest.raises(SystemExit):
        main(["diff", "a", "b", "--slower-than", slower_than])
    assert f"expected a number, found '{slower_than}'" in capsys.readouterr().err


@pytest.mark.parametrize("fail_on", ["colour", "text,", ""])
def test_an_unknown_aspect_ends_in_argparse(fail_on: str, capsys: Print) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["diff", "a", "b", "--fail-on", fail_on])
    assert ended.value.code == 2
    assert "expected some of outcome, text, thinking" in capsys.readouterr().err
