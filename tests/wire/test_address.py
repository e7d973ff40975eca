"""OLLAMA_HOST is read as the official client reads it, and refused in words one can act on."""

import doctest
import importlib
import sys
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._wire.address import Address, parse_host

importlib.import_module("ollama")
# The attribute `ollama._client` is a client, not the module.
official = sys.modules["ollama._client"]._parse_host  # type: ignore[attr-defined]

EXAMPLES = [
    (eval(example.source.strip().removeprefix("_parse_host")), eval(example.want))
    for example in doctest.DocTestParser().get_examples(official.__doc__)
]


@pytest.mark.parametrize(("value", "url"), EXAMPLES)
def test_the_official_examples_hold(value: str | None, url: str) -> None:
    assert parse_host(value).url == url


def test_the_official_examples_were_found() -> None:
    assert len(EXAMPLES) == 30


hosts = st.one_of(
    st.just(""),
    st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,20}[a-zA-Z0-9])?", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
    st.ip_addresses(v=6).map(str),
    st.sampled_from(["bücher.example", "user:secret@h", "[", "[::1", "0.0.0.0", "[::]"]),
)
values = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "http://", "https://", "HTTP://"]),
    hosts,
    st.one_of(
        st.just(""),
        st.integers(min_value=0, max_value=70_000).map(":{}".format),
        st.sampled_from([":", ":x", ":-1", ":1:2"]),
    ),
    st.sampled_from(["", "/", "/path", "/path/", "//a/b//", "/a b"]),
    st.sampled_from(["", "?x=1", "#f"]),
)


@pytest.mark.slow
@given(values)
def test_what_is_read_agrees_with_the_official_client(value: str) -> None:
    try:
        expected = official(value)
    except ValueError:
        with pytest.raises(ValueError, match="expected the address"):
            parse_host(value)
        return
    scheme, separator, rest = value.partition("://")
    if separator and not (scheme.lower() in {"http", "https"} and rest):
        # Read by the official client as something no request can be sent to.
        with pytest.raises(ValueError, match="expected the address"):
            parse_host(value)
        return
    assert parse_host(value).url == expected.replace("HTTP://", "http://")


@given(st.text())
def test_anything_else_is_read_or_refused(value: str) -> None:
    try:
        address = parse_host(value)
    except ValueError:
        return
    assert address.scheme in {"http", "https"}
    assert parse_host(address.url) == address


def test_the_parts_of_an_address() -> None:
    assert parse_host("https://user:secret@[::1]:8443/ollama/?x=1") == Address(
        scheme="https", host="::1", port=8443, path="/ollama"
    )


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:80/x", "http://127.0.0.1:80/x"),
        ("[::]", "http://[::1]:11434"),
        ("[::0]:1", "http://[::1]:1"),
        ("[::1]", "http://[::1]:11434"),
        ("example.com", "http://example.com:11434"),
    ],
)
def test_a_bind_address_is_reached_over_loopback(value: str, url: str) -> None:
    assert parse_host(value).connectable == url


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("::1", "'::1'"),
        ("[::1", "'[::1'"),
        ("h:port", "'h:port'"),
        ("h:65536", "'h:65536'"),
        ("ftp://h", "'ftp://h'"),
        ("://h", "'://h'"),
        ("http://", "'http://'"),
        ('"1.2.3.4"', "'\"1.2.3.4\"'"),
        (" 1.2.3.4", "' 1.2.3.4'"),
        ("user:secret@h:port", "'***@h:port'"),
        ("http://user:s/e@c@h:port", "'http://***@h:port'"),
    ],
)
def test_a_refusal_says_what_was_expected_and_found(value: str, shown: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_host(value)
    assert str(caught.value) == (
        "expected the address of an Ollama server as [http[s]://]host[:port][/path] with IPv6 in "
        f"brackets, found {shown}; an example is 'http://127.0.0.1:11434'"
    )
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_address_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        parse_host(None).port = 1  # type: ignore[misc]
