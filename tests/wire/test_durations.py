"""How long a request keeps a model loaded."""

from __future__ import annotations

import math

import pytest

from ollama_otel._wire.durations import read_keep_alive


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("0", 0),
        ("0s", 0),
        ("0.0", 0),
        ("300", 300),
        ("-1", math.inf),
        ("-1m", math.inf),
        ("soon", None),
        ("", None),
        ("nan", None),
        (None, None),
    ],
)
def test_keep_alive_is_read_as_the_server_reads_it(text: str | None, seconds: float | None) -> None:
    assert read_keep_alive(text) == seconds
