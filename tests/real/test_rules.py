"""The rules as the real promtool reads them, and each alert firing and not firing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .install import find_server
from .servers import DASHBOARDS

RULES = DASHBOARDS / "rules"
TESTS = sorted((RULES / "tests").glob("*.yaml"))


@pytest.fixture(scope="session")
def promtool() -> Path:
    found = find_server("promtool")
    if found is None:
        message = "promtool is not installed: python tests/real/install.py prometheus"
        if os.environ.get("OLLAMA_OTEL_REQUIRE_REAL") == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return found


def run(promtool: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [promtool, *arguments], capture_output=True, text=True, check=False, timeout=240
    )


def test_prometheus_takes_the_rules(promtool: Path) -> None:
    files = sorted(RULES.glob("*.yaml"))
    assert len(files) == 2
    checked = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *files)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(promtool: Path, path: Path) -> None:
    tested = run(promtool, "test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_an_alert_that_fires_too_early_is_noticed(promtool: Path, tmp_path: Path) -> None:
    """These tests can fail: without its least number of calls the alert on errors is red."""
    folder = shutil.copytree(RULES, tmp_path / "rules")
    alerts = folder / "ollama-alerts.yaml"
    text = alerts.read_text(encoding="utf-8")
    careless = text.replace(
        "ollama_otel:failed_calls:increase10m >= 5", "ollama_otel:failed_calls:increase10m >= 0"
    )
    assert careless != text
    alerts.write_text(careless, encoding="utf-8")
    tested = run(promtool, "test", "rules", folder / "tests" / "errors.yaml")
    assert tested.returncode != 0
    assert "four calls fail, of eight" in tested.stdout + tested.stderr
