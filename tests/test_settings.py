"""Each setting has a variable, a default and a sentence for what cannot be used."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from ollama_otel import configure
from ollama_otel._telemetry.exporters import otlp_exporter
from ollama_otel._telemetry.scrape import read_place
from ollama_otel.errors import OllamaOtelError, SettingsError
from ollama_otel.settings import ClientDefaults, SettingKeywords, Settings
from ollama_otel.settings._rows import Row, rows_of
from ollama_otel.settings._settings import groups, keywords

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
EVENTS = "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT"

# Variable, setting, texts that are read and what they become.
VARIABLES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "OLLAMA_OTEL_PROFILE",
        "profile",
        {"v1.41": "v1.41", "gen-ai-dev": "gen-ai-dev", " GEN-AI-DEV ": "gen-ai-dev"},
    ),
    (
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        "profile",
        {
            "gen_ai_latest_experimental": "gen-ai-dev",
            "http/dup, gen_ai_latest_experimental": "gen-ai-dev",
            "http": "v1.41",
            "gen_ai_latest": "v1.41",
        },
    ),
    (
        CONTENT,
        "capture_content",
        {
            "NO_CONTENT": "no_content",
            "span_only": "span_only",
            "Event_Only": "event_only",
            "SPAN_AND_EVENT": "span_and_event",
            "true": "span_only",
            "False": "no_content",
        },
    ),
    (EVENTS, "emit_events", {"true": True, "1": True, "YES": True, "off": False, "0": False}),
    ("OLLAMA_OTEL_CONTENT_MAX_LENGTH", "content_max_length", {"1": 1, " 100 ": 100}),
    ("OLLAMA_OTEL_TIME_PER_OUTPUT_CHUNK", "time_per_output_chunk", {"on": True, "no": False}),
    ("OLLAMA_OTEL_RESPONSE_MODEL_ON_METRICS", "response_model_on_metrics", {"true": True}),
    ("OLLAMA_OTEL_PROPAGATE_BAGGAGE", "propagate_baggage", {"yes": True, "off": False}),
    ("OLLAMA_OTEL_CONTENT_REDACTION", "content_redaction", {"yes": True, "off": False}),
    ("OLLAMA_OTEL_MAX_MODELS", "max_models", {"1": 1, "5000": 5000}),
    (
        "OLLAMA_OTEL_COLD_START_THRESHOLD",
        "cold_start_threshold",
        {"0": 0.0, "2.5": 2.5, "1e-3": 0.001},
    ),
    ("OLLAMA_OTEL_QUEUE_THRESHOLD", "queue_threshold", {"0": 0.0, "1": 1.0}),
    (
        "OLLAMA_OTEL_SCRAPE_HOSTS",
        "scrape_hosts",
        {"a.example, b,": ("a.example", "b"), "*": ("*",)},
    ),
    ("OLLAMA_OTEL_REPLAY_LOG", "replay_log", {"calls.jsonl": "calls.jsonl", " a b ": "a b"}),
    ("OLLAMA_OTEL_REPLAY_BODIES", "replay_bodies", {"true": True, "no": False}),
    ("OLLAMA_OTEL_REPLAY_MEDIA", "replay_media", {"on": True, "0": False}),
    ("OLLAMA_OTEL_REPLAY_MAX_SIZE", "replay_max_size", {"1000000": 1_000_000}),
    ("OLLAMA_OTEL_REPLAY_MAX_AGE", "replay_max_age", {"3600": 3600.0, "0.5": 0.5}),
    ("OLLAMA_OTEL_REPLAY_KEEP", "replay_keep", {"1": 1, "100": 100}),
    ("OLLAMA_OTEL_LOG_CALLS", "log_calls", {"yes": True, "false": False}),
    ("OLLAMA_OTEL_RESIDENCY", "residency", {"1": True, "off": False}),
    ("OLLAMA_OTEL_RESIDENCY_INTERVAL", "residency_interval", {"30": 30.0, "0.5": 0.5}),
    (
        "OLLAMA_OTEL_TRUNCATION",
        "truncation",
        {
            "off": "off",
            "Screen": "screen",
            "confirm": "confirm",
            "true": "confirm",
            "check": "check",
        },
    ),
    ("OLLAMA_OTEL_VOCABULARY_CACHE", "vocabulary_cache", {"cache": "cache"}),
    ("OLLAMA_OTEL_PRICES", "prices", {"prices.toml": "prices.toml"}),
    ("OLLAMA_OTEL_AUTO_CONFIGURE", "auto_configure", {"true": True, "0": False}),
    ("OLLAMA_OTEL_SHUTDOWN_TIMEOUT", "shutdown_timeout", {"10": 10.0, "0.5": 0.5}),
    ("OLLAMA_OTEL_SHUTDOWN_ON_SIGTERM", "shutdown_on_sigterm", {"true": True, "0": False}),
]
REFUSED: list[tuple[str, str, str]] = [
    ("OLLAMA_OTEL_PROFILE", "v1.36", "v1.41 or gen-ai-dev"),
    ("OLLAMA_OTEL_TRUNCATION", "always", "off, screen, confirm or check"),
    (CONTENT, "yes", "NO_CONTENT, SPAN_ONLY, EVENT_ONLY or SPAN_AND_EVENT"),
    (EVENTS, "maybe", "true or false"),
    ("OLLAMA_OTEL_CONTENT_MAX_LENGTH", "0", "a whole number of at least 1"),
    ("OLLAMA_OTEL_CONTENT_MAX_LENGTH", "1.5", "a whole number of at least 1"),
    ("OLLAMA_OTEL_TIME_PER_OUTPUT_CHUNK", "2", "true or false"),
    ("OLLAMA_OTEL_RESPONSE_MODEL_ON_METRICS", "x", "true or false"),
    ("OLLAMA_OTEL_PROPAGATE_BAGGAGE", "all", "true or false"),
    ("OLLAMA_OTEL_CONTENT_REDACTION", "some", "true or false"),
    ("OLLAMA_OTEL_SCRAPE_HOSTS", "a, b:9464", "host names without ports, separated by commas"),
    ("OLLAMA_OTEL_MAX_MODELS", "-1", "a whole number of at least 1"),
    ("OLLAMA_OTEL_MAX_MODELS", "many", "a whole number of at least 1"),
    ("OLLAMA_OTEL_COLD_START_THRESHOLD", "-1", "a number of seconds, 0 or more"),
    ("OLLAMA_OTEL_COLD_START_THRESHOLD", "inf", "a number of seconds, 0 or more"),
    ("OLLAMA_OTEL_QUEUE_THRESHOLD", "nan", "a number of seconds, 0 or more"),
    ("OLLAMA_OTEL_QUEUE_THRESHOLD", "5m", "a number of seconds, 0 or more"),
    ("OLLAMA_OTEL_REPLAY_BODIES", "some", "true or false"),
    ("OLLAMA_OTEL_REPLAY_MEDIA", "2", "true or false"),
    ("OLLAMA_OTEL_REPLAY_MAX_SIZE", "100MB", "a whole number of at least 1"),
    ("OLLAMA_OTEL_REPLAY_MAX_AGE", "1d", "a number of seconds, 0 or more"),
    ("OLLAMA_OTEL_REPLAY_KEEP", "0", "a whole number of at least 1"),
    ("OLLAMA_OTEL_LOG_CALLS", "json", "true or false"),
    ("OLLAMA_OTEL_RESIDENCY", "http://127.0.0.1:11434", "true or false"),
    ("OLLAMA_OTEL_AUTO_CONFIGURE", "auto", "true or false"),
    ("OLLAMA_OTEL_RESIDENCY_INTERVAL", "0", "a number of seconds above 0"),
    ("OLLAMA_OTEL_RESIDENCY_INTERVAL", "5s", "a number of seconds above 0"),
    ("OLLAMA_OTEL_SHUTDOWN_TIMEOUT", "0", "a number of seconds above 0"),
    ("OLLAMA_OTEL_SHUTDOWN_ON_SIGTERM", "graceful", "true or false"),
]
ROWS = keywords()
"""Every setting, by keyword."""
OF_CLIENTS = {row.keyword: row for row in rows_of(ClientDefaults)}
READ = [
    (variable, setting, text, value)
    for variable, setting, texts in VARIABLES
    for text, value in texts.items()
]


def of(settings: Settings, keyword: str) -> Any:
    """Return the value of a keyword in its group."""
    found = [
        getattr(getattr(settings, name), row.name)
        for name, group in groups().items()
        for row in rows_of(group)
        if row.keyword == keyword
    ]
    assert len(found) == 1
    return found[0]


def test_the_defaults() -> None:
    assert Settings() == Settings(
        profile="v1.41",
        capture_content="no_content",
        emit_events=None,
        redactors=(),
        content_max_length=32_768,
        time_per_output_chunk=False,
        response_model_on_metrics=False,
        content_redaction=True,
        propagate_baggage=False,
        max_models=200,
        cold_start_threshold=0.1,
        queue_threshold=0.05,
        scrape_hosts=(),
        replay_log=None,
        replay_bodies=False,
        replay_media=False,
        replay_max_size=100 * 1024 * 1024,
        replay_max_age=24 * 3600.0,
        replay_keep=10,
        log_calls=False,
        residency=False,
        residency_interval=5.0,
        truncation="off",
        vocabulary_cache="~/.cache/ollama_otel/vocabularies",
        prices=None,
        auto_configure=False,
        shutdown_timeout=3.0,
        shutdown_on_sigterm=False,
    )


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environ({}) == Settings()
    assert Settings.from_environ({"OTHER": "x", "OLLAMA_HOST": "y"}) == Settings()


@pytest.mark.parametrize(("variable", "setting", "text", "value"), READ)
def test_a_variable_is_read(variable: str, setting: str, text: str, value: Any) -> None:
    settings = Settings.from_environ({variable: text})
    assert of(settings, setting) == value
    assert settings == Settings(**{setting: value})


def test_every_setting_but_the_redactors_has_a_variable_and_every_variable_stands_here() -> None:
    known = {row.variable for row in ROWS.values() if row.variable}
    assert {row.keyword for row in ROWS.values() if not row.variable} == {"redactors"}
    assert known == {variable for variable, *_ in VARIABLES} - {"OTEL_SEMCONV_STABILITY_OPT_IN"}
    # Any text is a path.
    paths = {"OLLAMA_OTEL_REPLAY_LOG", "OLLAMA_OTEL_VOCABULARY_CACHE", "OLLAMA_OTEL_PRICES"}
    assert known == {variable for variable, *_ in REFUSED} | paths


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_OTEL_MAX_MODELS", "7")
    assert Settings.from_environ().telemetry.max_models == 7


@pytest.mark.parametrize("variable", [variable for variable, *_ in VARIABLES])
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_is_an_unset_one(variable: str, text: str) -> None:
    assert Settings.from_environ({variable: text}) == Settings()


@pytest.mark.parametrize(("variable", "text", "expected"), REFUSED)
def test_a_wrong_value_is_refused_in_one_sentence(variable: str, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({variable: text})
    assert str(caught.value) == f"{variable}: expected {expected}, found {text!r}"
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, OllamaOtelError)


@pytest.mark.parametrize(("variable", "text", "expected"), REFUSED)
def test_a_wrong_value_is_only_logged_where_the_program_must_go_on(
    variable: str, text: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"OLLAMA_OTEL_QUEUE_THRESHOLD": "9", "OLLAMA_OTEL_MAX_MODELS": "9", variable: text}
    settings = Settings.from_environ(environ, lenient=True)
    assert caplog.record_tuples == [
        (
            "ollama_otel",
            logging.WARNING,
            f"{variable}: expected {expected}, found {text!r}; using the default",
        )
    ]
    # The others are read all the same.
    good = {"queue_threshold": 9.0, "max_models": 9}
    wrong = next(setting for known, setting, _ in VARIABLES if known == variable)
    assert settings == Settings(**{k: v for k, v in good.items() if k != wrong})


@pytest.mark.parametrize(
    "settings",
    [
        lambda: Settings(replay_log="~/calls.jsonl"),
        lambda: Settings(replay_log=Path("~/calls.jsonl")),
        lambda: Settings.from_environ({"OLLAMA_OTEL_REPLAY_LOG": "~/calls.jsonl"}),
    ],
)
def test_a_tilde_is_the_home_folder(
    settings: Callable[[], Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert settings().replay.log == str(tmp_path / "calls.jsonl")


def test_a_path_without_a_tilde_in_front_stays() -> None:
    for path in ("a/~/b", Path("calls.jsonl")):
        assert Settings(replay_log=path).replay.log == path


def test_an_unknown_variable_is_reported_once_with_the_one_it_resembles(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_otel.settings._settings._reported", set())
    environ = {
        "OLLAMA_OTEL_REPLAYLOG": "x",
        "OLLAMA_OTEL_COLOUR": "red",
        "OLLAMA_OTEL_MAX_MODELS": "7",
        "OLLAMA_OTEL_LOGS": "loki",
        "OLLAMA_HOST": "h",
    }
    for _ in range(2):
        assert Settings.from_environ(environ) == Settings(max_models=7)
    assert caplog.messages == [
        "the variable OLLAMA_OTEL_COLOUR is unknown and has no effect",
        "the variable OLLAMA_OTEL_REPLAYLOG is unknown and has no effect "
        "(did you mean OLLAMA_OTEL_REPLAY_LOG?)",
    ]


def test_a_keyword_wins_over_its_variable() -> None:
    environ = {"OLLAMA_OTEL_MAX_MODELS": "7", "OLLAMA_OTEL_QUEUE_THRESHOLD": "7"}
    settings = Settings.from_environ(environ, max_models=3, queue_threshold=None)
    assert (settings.telemetry.max_models, settings.telemetry.queue_threshold) == (3, 7.0)


def test_a_false_keyword_wins_too() -> None:
    settings = Settings.from_environ({EVENTS: "true"}, emit_events=False)
    assert settings.content.emit_events is False


def test_our_profile_wins_over_the_variable_that_all_share() -> None:
    environ = {
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        "OLLAMA_OTEL_PROFILE": "v1.41",
    }
    assert Settings.from_environ(environ) == Settings(profile="v1.41")
    assert Settings.from_environ(environ, profile="gen-ai-dev") == Settings(profile="gen-ai-dev")


def test_an_unknown_keyword_is_refused_with_the_one_it_resembles() -> None:
    with pytest.raises(TypeError, match=r"colour$"):
        Settings.from_environ({}, colour="red")
    with pytest.raises(TypeError, match=r"replay_keeps \(did you mean replay_keep\?\)"):
        Settings(replay_keeps=3)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match=r"replay_keeps \(did you mean replay_keep\?\)"):
        configure(replay_keeps=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("profile", "v1.36"),
        ("profile", ["v1.41"]),
        ("capture_content", "SPAN_ONLY"),
        ("capture_content", True),
        ("emit_events", "yes"),
        ("redactors", str.upper),
        ("redactors", [str.upper]),
        ("redactors", ("upper",)),
        ("content_max_length", 0),
        ("content_max_length", "100"),
        ("content_max_length", 1.5),
        ("time_per_output_chunk", "on"),
        ("response_model_on_metrics", None),
        ("max_models", 0),
        ("max_models", True),
        ("max_models", None),
        ("scrape_hosts", "a.example"),
        ("scrape_hosts", ("a", "")),
        ("scrape_hosts", ("a:1",)),
        ("propagate_baggage", "yes"),
        ("content_redaction", "yes"),
        ("auto_configure", 1),
        ("cold_start_threshold", -0.1),
        ("cold_start_threshold", float("nan")),
        ("cold_start_threshold", "1"),
        ("queue_threshold", -1),
        ("queue_threshold", None),
        ("replay_log", ""),
        ("replay_log", 7),
        ("replay_log", "a\0b"),
        ("replay_log", True),
        ("replay_bodies", "yes"),
        ("replay_media", None),
        ("replay_max_size", 0),
        ("replay_max_size", "100MB"),
        ("replay_max_age", -1),
        ("replay_keep", 0),
        ("log_calls", "info"),
        ("residency", "http://127.0.0.1:11434"),
        ("residency_interval", 0),
        ("residency_interval", float("inf")),
        ("truncation", "maybe"),
        ("truncation", True),
        ("vocabulary_cache", ""),
        ("prices", ""),
        ("shutdown_timeout", 0),
        ("shutdown_timeout", float("nan")),
        ("shutdown_on_sigterm", "TERM"),
    ],
)
def test_a_value_given_in_code_is_checked(setting: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**{setting: value})
    message = str(caught.value)
    assert message == f"{setting}: expected {ROWS[setting].kind.code}, found {value!r}"


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().telemetry = Settings().telemetry  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Settings().telemetry.max_models = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings("v1.41")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("mode", "emit", "on_spans", "on_events", "details"),
    [
        ("no_content", None, False, False, False),
        ("span_only", None, True, False, False),
        ("event_only", None, False, True, True),
        ("span_and_event", None, True, True, True),
        ("no_content", True, False, False, True),
        ("span_and_event", False, True, True, False),
    ],
)
def test_where_content_goes_follows_from_two_settings(
    mode: Any, emit: bool | None, on_spans: bool, on_events: bool, details: bool
) -> None:
    content = Settings(capture_content=mode, emit_events=emit).content
    assert (content.on_spans, content.on_events) == (on_spans, on_events)
    assert content.details_event is details


# --- every setting ----------------------------------------------------------------------------


class Odd:
    """A value that no setting allows."""

    def __init__(self, shown: str) -> None:
        self.shown = shown

    def __repr__(self) -> str:
        return self.shown


WRONG = st.one_of(
    st.integers(),
    st.sampled_from([10**400, -(10**400)]),
    st.builds(Odd, st.text()),
    st.binary(),
    st.floats(),
    st.lists(st.integers()),
    st.text(),
)
few = profile(max_examples=20)
"""For each of many settings."""
SECRET = "sk-zqsecret"
http = partial(otlp_exporter, "traces", "http/protobuf")


def place(prometheus: str) -> object:
    return read_place(prometheus)


NOT_SHOWN = {"base_url"}
"""Settings whose values may be secret."""


@pytest.mark.slow
@pytest.mark.parametrize("keyword", [*ROWS, *OF_CLIENTS])
@few
@example(value=Odd("odd"))
@given(value=WRONG)
def test_a_wrong_keyword_names_itself_what_is_allowed_and_what_was_found(
    keyword: str, value: Any
) -> None:
    row, kind = (
        (ROWS[keyword], Settings) if keyword in ROWS else (OF_CLIENTS[keyword], ClientDefaults)
    )
    try:
        kind(**{keyword: value})
    except SettingsError as error:
        assert not row.kind.accepts(value)
        before, _, found = error.args[0].partition(", found ")
        assert before == f"{keyword}: expected {row.kind.code}"
        assert found.startswith(("a value of", "''") if keyword in NOT_SHOWN else repr(value)[:160])
        assert len(found) <= 200
    else:
        assert row.kind.accepts(value)


@pytest.mark.parametrize("keyword", sorted({*ROWS, *OF_CLIENTS} - {"redactors"}))
@few
@example(text="\0")
@given(text=st.text().filter(str.strip))
def test_a_wrong_variable_names_itself_what_is_allowed_and_what_was_found(
    keyword: str, text: str
) -> None:
    row, read = (
        (ROWS[keyword], Settings.from_environ)
        if keyword in ROWS
        else (OF_CLIENTS[keyword], ClientDefaults.from_environ)
    )
    assert row.variable is not None
    try:
        read({row.variable: text})
    except SettingsError as error:
        before, _, found = error.args[0].partition(", found ")
        assert before == f"{row.variable}: expected {row.kind.text}"
        assert found.startswith(repr(text.strip())[:160])


def listed_words(row: Row, allowed: str) -> list[str]:
    return allowed.replace("'", "").replace(" or ", ", ").split(", ")


@pytest.mark.parametrize("keyword", ["profile", "capture_content", "truncation"])
def test_a_message_lists_all_words_that_are_allowed(keyword: str) -> None:
    row = ROWS[keyword]
    for word in listed_words(row, row.kind.text):
        assert of(Settings.from_environ({str(row.variable): word}), keyword) == word.lower()
    for word in listed_words(row, row.kind.code):
        assert of(Settings(**{keyword: word}), keyword) == word


@pytest.mark.parametrize(
    ("use", "name", "value"),
    [
        (http, "headers", {"authorization": f"Bearer\n{SECRET}"}),
        (http, "headers", {f"authorization: Bearer {SECRET}": ""}),
        (http, "headers", {"authorization": SECRET.encode()}),
        (configure, "headers", [("authorization", SECRET)]),
        (configure, "headers", f"authorization={SECRET}"),
        (http, "endpoint", f"user:{SECRET}@collector:4318"),
        (configure, "endpoint", f"https://user:{SECRET}@collector".encode()),
        (place, "prometheus", f"user:{SECRET}@127.0.0.1:9464"),
        (configure, "resource_attributes", SECRET),
    ],
)
def test_a_wrong_secret_is_not_in_the_message(use: Any, name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        use(**{name: value})
    assert str(caught.value).startswith(name)
    assert ": expected " in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service_name", 7),
        ("endpoint", 4318),
        ("protocol", "udp"),
        ("protocol", ["grpc"]),
        ("headers", "a=b"),
        ("resource_attributes", "a=b"),
        ("export_interval", "5"),
        ("export_interval", True),
        ("prometheus", 9464),
        ("settings", {}),
    ],
)
def test_every_other_keyword_of_configure_names_itself(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: expected .*, found "):
        configure(**{name: value})


def test_type_checkers_know_the_keywords_as_they_are() -> None:
    types = {
        row.keyword: get_type_hints(group)[row.name]
        for group in groups().values()
        for row in rows_of(group)
    }
    assert get_type_hints(SettingKeywords) == types
    assert list(types) == list(ROWS)


def test_a_copy_has_other_values_and_the_rest() -> None:
    settings = Settings(replay_log="calls.jsonl", replay_keep=3, residency=True)
    assert settings.replace(replay_log=None) == Settings(replay_keep=3, residency=True)
    assert settings.replay.log == "calls.jsonl"
    assert settings.__replace__(replay_keep=4) == settings.replace(replay_keep=4)
    with pytest.raises(SettingsError, match=r"^replay_keep: "):
        settings.replace(replay_keep=0)


def test_what_is_shown_is_what_was_given() -> None:
    settings = Settings(replay_log="calls.jsonl", residency=True, max_models=200)
    assert repr(settings) == "Settings(replay_log='calls.jsonl', residency=True)"
    assert repr(Settings()) == "Settings()"


def test_settings_are_values() -> None:
    settings = Settings(max_models=3)
    assert settings == deepcopy(settings) == pickle.loads(pickle.dumps(settings))
    assert {settings: 1}[Settings(max_models=3)] == 1
    assert settings != Settings()
