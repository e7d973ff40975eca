"""Queries and columns that all panels by server share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dashboards.src.links import Link, cell, to_board
from dashboards.src.panels import Column
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import SERVER as SERVER_NAME
from dashboards.src.vocabulary import BY_SERVER
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["BUSY", "DOWN", "STATE", "UP", "of_row", "server_columns"]

UP: Final = Q.gauge(rows.SERVER_UP, by=BY_SERVER, how="max")
_BUSY: Final = Q.gauge(rows.SERVER_BUSY, by=BY_SERVER, how="max")

STATE: Final = f"(2 - ({UP} * (2 - {_BUSY}) or 2 * {UP}))"
"""0 up, 1 busy, 2 down; a server that nobody reaches is down, whatever its last poll said."""

DOWN: Final = f"sum({STATE} == bool 2)"
BUSY: Final = f"sum({STATE} == bool 1)"
"""The number of servers in a state."""


def of_row(uid: str, title: str) -> Link:
    """Return a link to a board for the server of the clicked row."""
    return to_board(uid, title, server=cell("Address"), port=cell("Port"))


def server_columns(*links: Link) -> Mapping[str, Column]:
    """Return the column with the server of a row, and the hidden ones that its links need."""
    return {
        SERVER_NAME: Column(title="Server", links=links),
        label_name(names.SERVER_ADDRESS): Column(title="Address", is_hidden=True),
        label_name(names.SERVER_PORT): Column(title="Port", is_hidden=True),
    }
