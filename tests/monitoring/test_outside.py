"""Shipped files, HTTP clients, and programs that hang."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from ollama_otel._monitoring import MonitoringError, compose
from ollama_otel._monitoring.files import shipped_files, shipped_folder
from ollama_otel._monitoring.http_client import open_client, reason_of


def test_a_wheel_contains_the_files(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "ollama_otel" / "_monitoring"
    (package / "files").mkdir(parents=True)
    with pytest.raises(MonitoringError, match="the dashboards are not installed"):
        shipped_folder(package)
    (package / "files" / "compose.yaml").write_text("")
    assert shipped_folder(package) == package / "files"
    assert list(shipped_files(package / "files")) == [Path("compose.yaml")]


def test_a_checkout_has_the_files_at_its_root(tmp_path: Path) -> None:
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards" / "compose.yaml").write_text("")
    package = tmp_path / "ollama_otel" / "_monitoring"
    assert shipped_folder(package) == tmp_path / "dashboards"


@pytest.mark.parametrize(
    ("url", "by_proxy"),
    [
        ("http://localhost:9090", False),
        ("http://127.0.0.2:9090", False),
        ("http://[::1]:9090", False),
        ("http://192.0.2.1:9090", True),
        ("https://prometheus.example", True),
    ],
)
def test_a_proxy_is_used_for_other_machines_only(
    url: str, by_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    with open_client(url) as client:
        assert client.trust_env is by_proxy


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectError("refused"), "cannot connect"),
        (httpx.ReadTimeout("timed out"), "timed out"),
        (httpx.RemoteProtocolError("Server disconnected"), "Server disconnected"),
        (httpx.ReadError(""), "ReadError"),
    ],
)
def test_failed_requests_have_a_short_reason(error: httpx.HTTPError, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.processes
def test_a_program_that_hangs_times_out() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert compose._fails(command, {}, patience=0.2) == "no response within 0.2 s"
