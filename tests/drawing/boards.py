"""The boards as we ship them."""

from __future__ import annotations

import json
from typing import Any

from tests.real.servers.prometheus import DASHBOARDS


def boards(chosen: list[str] | None = None) -> list[dict[str, Any]]:
    """Load all boards, or those with one of these texts in their names."""
    files = sorted((DASHBOARDS / "grafana" / "boards").glob("*.json"))
    return [
        json.loads(file.read_text())
        for file in files
        if chosen is None or any(each in file.stem for each in chosen)
    ]
