"""Requests are answered under the names that lead here, and not for web pages of others."""

from __future__ import annotations

import socket

import pytest

from ollama_otel._admission import Admission
from ollama_otel.errors import SettingsError

LOOPBACK = "127.0.0.1"
BEYOND = "10.1.2.3"
LOCAL_NAMES = [
    *("localhost", "LOCALHOST", "localhost.", "localhost:11500", "127.0.0.1", "127.0.0.1:9464"),
    *("[::1]", "[::1]:9464", "10.1.2.3:9464", "203.0.113.9", "app.localhost:1"),
    *("host.docker.internal:9464", "printer.local", "app", "app:9464", "app.ns.svc.cluster.local"),
]
FOREIGN_NAMES = [
    *("evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("evil.example.", "notlocalhost.example", "xlocal.example", "metrics.example.com:9464"),
]
BROKEN = [
    "user@localhost",
    "localhost:port",
    "localhost:99999",
    "[::1",
    "localhost/x",
    "a#b",
    "a?b",
]


@pytest.mark.sockets
@pytest.mark.parametrize("host", [*LOCAL_NAMES, "", None, socket.gethostname()])
@pytest.mark.parametrize("arrived_at", [LOOPBACK, BEYOND, "::1", "::ffff:127.0.0.1", None])
def test_names_that_nobody_can_register_are_answered(host: str | None, arrived_at: str) -> None:
    assert Admission().admits(host, None, arrived_at)
    assert Admission(["metrics.example.com"]).admits(host, None, arrived_at)


@pytest.mark.parametrize("host", [*FOREIGN_NAMES, *BROKEN])
@pytest.mark.parametrize("arrived_at", [LOOPBACK, "::1", "::ffff:127.0.0.1", None])
def test_other_names_do_not_lead_to_a_loopback_address(host: str, arrived_at: str) -> None:
    assert not Admission().admits(host, None, arrived_at)


@pytest.mark.parametrize("host", FOREIGN_NAMES)
def test_beyond_this_machine_any_name_is_answered_unless_hosts_are_given(host: str) -> None:
    assert Admission().admits(host, None, BEYOND)
    is_given = host == "metrics.example.com:9464"
    for address in (BEYOND, LOOPBACK):
        assert Admission(["Metrics.Example.com."]).admits(host, None, address) == is_given
        assert Admission(["*"]).admits(host, "https://evil.example", address)


@pytest.mark.parametrize("host", BROKEN)
def test_what_is_no_host_is_refused_everywhere(host: str) -> None:
    assert not Admission().admits(host, None, BEYOND)


@pytest.mark.parametrize(
    ("origin", "is_admitted"),
    [
        ("http://localhost:3000", True),
        ("http://app.localhost", True),
        ("https://127.0.0.1:1", True),
        ("http://0.0.0.0:3000", True),
        ("http://0.0.0.0.evil.example", False),
        ("http://localhost:3000.evil.example", False),
        ("http://[::1]:1", True),
        ("app://x", True),
        ("file://", True),
        ("vscode-webview://1a2b", True),
        ("http://metrics.example.com", True),
        ("null", False),
        ("", False),
        ("http://evil.example", False),
        ("https://localhost.evil.example", False),
        ("http://203.0.113.9", False),
        ("http://[::1", False),
        # In its network, but not this machine.
        ("http://printer.local", False),
    ],
)
@pytest.mark.parametrize("arrived_at", [LOOPBACK, BEYOND])
def test_pages_of_other_origins_are_refused(
    origin: str, is_admitted: bool, arrived_at: str
) -> None:
    admission = Admission(["metrics.example.com"])
    assert admission.admits("127.0.0.1:9464", origin, arrived_at) == is_admitted


@pytest.mark.parametrize("name", ["", "a:9464", "http://a", "a b", "[::1]", "*.a", "a/"])
def test_what_is_no_host_name_cannot_be_allowed(name: str) -> None:
    with pytest.raises(SettingsError, match="expected a host name without a port"):
        Admission(["a", name])


def test_a_page_of_the_same_host_is_answered() -> None:
    assert Admission().admits("10.1.2.3:9464", "http://10.1.2.3:9464", BEYOND)
    assert Admission().admits("server.example.com", "https://server.example.com", BEYOND)
    assert not Admission().admits("server.example.com", "https://server.example.com", LOOPBACK)
