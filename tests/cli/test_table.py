"""Tables on narrow terminals: each cell in one piece, each row with its name."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from ollama_otel._cli.table import ContinuedTable, shortened

WORDS = st.text("abc 0123456789,.", max_size=12).map(lambda text: " ".join(text.split()))


def printed(table: ContinuedTable, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_table_that_fits_is_one_table() -> None:
    table = ContinuedTable("name", "calls", "cost")
    table.add_row("a", "1", "0.5")
    table.add_row("bb", "12", "0.25")
    assert [line.rstrip() for line in printed(table, 40)] == [
        "name  calls  cost",
        "a         1   0.5",
        "bb       12  0.25",
    ]


def test_a_wide_table_continues_below_with_the_names_of_its_rows() -> None:
    table = ContinuedTable("name", "calls", "cost", "share of all", title="Cost")
    table.add_row("a", "1", "0.5", "100%")
    assert [line.rstrip() for line in printed(table, 18)] == [
        "Cost",
        "name  calls  cost",
        "a         1   0.5",
        "",
        "name  share of all",
        "a             100%",
    ]


@pytest.mark.parametrize("width", [60, 80, 88])
def test_long_names_give_way_and_keep_their_ends(width: int) -> None:
    table = ContinuedTable("budget", "of", "used", names=2)
    for number in range(3):
        table.add_row("tokens of each user of all", f"{'long-' * 20}user-{number}", "1,000,000")
    lines = printed(table, width)
    assert max(map(cell_len, lines)) <= width
    assert [line.split()[-2][-6:] for line in lines[1:]] == ["user-0", "user-1", "user-2"]


@pytest.mark.slow
@given(
    st.lists(st.lists(WORDS, min_size=9, max_size=9), max_size=4),
    st.sampled_from([60, 80, 88, 160]),
)
def test_no_cell_is_wrapped_or_lost(rows: list[list[str]], width: int) -> None:
    table = ContinuedTable(*(f"heading {number}" for number in range(9)))
    for row in rows:
        table.add_row(*row)
    lines = printed(table, width)
    assert max(map(cell_len, lines)) <= width
    parts = sum(line.startswith("heading 0") for line in lines)
    assert len(lines) == parts * (len(rows) + 1) + parts - 1
    text = "\n".join(lines)
    assert all(cell in text for row in rows for cell in row)


@given(st.text(max_size=60), st.integers(4, 40))
def test_a_shortened_text_has_both_ends(text: str, width: int) -> None:
    short = shortened(text, width)
    assert len(short) == min(len(text), width)
    if short != text:
        begin, _, end = short.partition("\N{HORIZONTAL ELLIPSIS}")
        assert text.startswith(begin)
        assert end
        assert text.endswith(end) or "\N{HORIZONTAL ELLIPSIS}" in text
