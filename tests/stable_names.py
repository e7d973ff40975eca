"""The names that users build on: dashboards, queries, readers of logs, and programs.

`python -m tests.stable_names` writes them to `data/stable-names.json`, after a change that is meant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import get_args

from ollama_otel import _names as names
from ollama_otel._facts import FACTS
from ollama_otel._telemetry.instruments import instruments_of
from ollama_otel._wire.failures import ERROR_TYPES
from ollama_otel.records import Outcome
from ollama_otel.settings import ClientDefaults, Profile
from ollama_otel.settings._rows import rows_of
from ollama_otel.settings._settings import groups, keywords
from tests.test_public import PUBLIC

FILE = Path(__file__).parent / "data" / "stable-names.json"


def stable_names() -> Mapping[str, list[str]]:
    """Return the names of each kind, sorted."""
    sent = [value for name, value in vars(names).items() if name.isupper()]
    rows = [row for profile in get_args(Profile) for row in instruments_of(profile)]
    settings = [*keywords().values(), *rows_of(ClientDefaults)]
    found = {
        "names in telemetry": {each for each in sent if isinstance(each, str) and "." in each},
        "metrics": {f"{row.name} {row.kind} {row.unit}" for row in rows},
        "labels of metrics": {f"{row.name} {label}" for row in rows for label in row.labels},
        "keys of the replay log": {f"{row.line} {row.key}" for row in FACTS.rows if row.key},
        "columns of show --json": {row.column for row in FACTS.rows if row.column},
        "error types": set(ERROR_TYPES),
        "outcomes": set(get_args(Outcome)),
        "settings": {row.keyword for row in settings},
        "attributes of settings": {
            f"{name}.{row.name}" for name, group in groups().items() for row in rows_of(group)
        },
        "variables": {row.variable for row in settings if row.variable is not None},
        "public names": {
            f"{module}.{n}" for module in PUBLIC for n in import_module(module).__all__
        },
    }
    return {kind: sorted(each) for kind, each in found.items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(stable_names(), indent=1) + "\n", encoding="utf-8")
