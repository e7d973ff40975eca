"""The pytest plugin: records a test's Ollama calls once, and plays them from then on.

`@pytest.mark.ollama_replay` or the fixture `ollama_replay` turns it on for a test. pytest loads
the plugin in every run, so it imports most of its modules only for such a test.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = [
    "ReplayedTest",
    "ollama_replay",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_fixture_setup",
    "pytest_load_initial_conftests",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
]

_MARKER: Final = (
    "ollama_replay(path=None, speed=0, ignore=(), repeat=False, redactors=(), "
    "media=False): record the test's "
    "Ollama calls into a cassette the first time, and answer them from it afterwards; each test "
    "has a cassette of its own"
)
_NAME: Final = "ollama_replay"
_BY_MARKER: Final = "_ollama_replay_by_marker"
_RECORD: Final = "--ollama-record"
_MODES: Final = ("once", "all", "none")
_LONGEST_NAME: Final = 100
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_\-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedTest:
    """The value of the fixture `ollama_replay`."""

    path: Path
    """The test's cassette."""
    is_recording: bool
    """Whether calls go to the real server."""


class _Run:
    """The state of one test with a cassette."""

    def __init__(self, test: str, path: Path, *, is_recording: bool) -> None:
        self.has_passed = False
        self._test = test
        self._path = path
        self._is_recording = is_recording
        self.misses: Sequence[Exception] = ()
        self._reported = 0

    def explain(self, error: BaseException) -> None:
        """Add the misses to an error that they may have caused."""
        misses = self._unreported()
        for miss in misses:
            if miss is not error:
                error.add_note(str(miss))
        if misses:
            error.add_note(self._how_to_record_again())

    def fail_on_misses(self) -> None:
        """Fail the test for misses that were not reported yet."""
        if misses := self._unreported():
            pytest.fail("\n".join([*map(str, misses), self._how_to_record_again()]), pytrace=False)

    def why_not_recorded(self, error: BaseException | None) -> str | None:
        """Return what a failure means for the cassette; None if the test was not recorded."""
        if not self._is_recording:
            return None
        kept = "stays as it was" if self._path.exists() else "is not written"
        text = (
            "The test was recorded: its Ollama calls went to the server. "
            f"As it failed, its cassette {self._path} {kept}."
        )
        if _found_no_server(error):
            text += (
                " There is no server: start Ollama to record, or get the cassette; with a cassette "
                "the test needs no server."
            )
        return text

    def _how_to_record_again(self) -> str:
        return f"To record the cassette again: {_command('all', self._test)}"

    def _unreported(self) -> Sequence[Exception]:
        misses = self.misses[self._reported :]
        self._reported = len(self.misses)
        return misses


class _EarlyCalls:
    """The Ollama calls that the fixtures of a test make before its cassette is in use.

    A fixture of a wider scope serves many tests, so its calls belong to no test's cassette.
    """

    def __init__(self) -> None:
        from ollama_otel.replay._tested import note_calls  # noqa: PLC0415 - only for such a test

        self.fixtures: list[str] = []
        """The fixtures that are being set up, the innermost one last."""
        self._calls: dict[str, None] = {}
        self._stop: Callable[[], None] | None = note_calls(self._note)

    def _note(self, call: str) -> None:
        if self._stop is not None and self.fixtures:
            self._calls[f"{call} of the fixture {self.fixtures[-1]!r}"] = None

    def stop(self) -> None:
        """Note no further calls."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    @property
    def explanation(self) -> str | None:
        """A description of the problem with these calls; None if there are none."""
        if not self._calls:
            return None
        from ollama_otel._display import visible  # noqa: PLC0415 - only for such a test

        calls = visible(", ".join(self._calls))
        return (
            f"expected all Ollama calls in the test's cassette, found {calls} "
            "before the cassette is in use: these calls are not recorded, and go to the real "
            "server each time. Give the fixture the scope 'function' and let it request "
            "'ollama_replay'"
        )


_EARLY: Final = pytest.StashKey[_EarlyCalls]()
"""The early calls of the test that is being set up."""
_RUN: Final = pytest.StashKey[_Run]()
_OWNERS: Final = pytest.StashKey[dict[Path, str]]()
"""The test that owns each cassette."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """The arguments of the marker."""

    path: str | os.PathLike[str] | None = None
    """Path of the cassette, relative to the folder of the test's file."""
    speed: float = 0.0
    ignore: Collection[str] = ()
    repeat: bool = False
    """Whether a request that was made more often than recorded starts over."""
    redactors: Sequence[Callable[[str], str]] = ()
    media: bool = False
    """Whether the cassette holds the images of requests, and not only their hash."""


# --- pytest's hooks -----------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command line."""
    group = parser.getgroup("ollama_otel", "Ollama calls from cassettes")
    group.addoption(
        _RECORD,
        nargs="?",
        const="all",
        metavar="MODE",
        help="once: record if there is no cassette (default); all: record again (also without "
        "MODE); none: never record (default if CI is set)",
    )
    group.addoption(
        "--ollama-strict",
        action="store_true",
        help="fail a test that does not make all calls of its cassette",
    )


def pytest_load_initial_conftests(args: list[str]) -> None:
    """Let a path follow `--ollama-record`, which argparse would take as the option's value."""
    for number, (option, value) in enumerate(pairwise(args)):
        is_path = Path(value.partition("::")[0]).exists()
        if option == _RECORD and value not in _MODES and is_path:
            args[number] = f"{_RECORD}=all"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and check the options."""
    mode = config.getoption(_RECORD)
    if mode is not None and mode not in _MODES:
        raise pytest.UsageError(
            f"{_RECORD}: expected one of {', '.join(_MODES)}, or a path of tests, found {mode!r}"
        )
    config.addinivalue_line("markers", _MARKER)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Remove our autouse fixture from tests without the marker, so that it costs them nothing."""
    names_of = {item: names for item in items if (names := getattr(item, "fixturenames", None))}
    # The cases of one parametrised function share one list.
    marked = {id(names) for item, names in names_of.items() if item.get_closest_marker(_NAME)}
    for names in names_of.values():
        if id(names) not in marked and _BY_MARKER in names:
            names.remove(_BY_MARKER)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Explain the failure of a fixture whose Ollama calls cannot be in the test's cassette."""
    names = getattr(item, "fixturenames", ())
    if _NAME not in names and item.get_closest_marker(_NAME) is None:
        return (yield)
    early = item.config.stash[_EARLY] = _EarlyCalls()
    try:
        return (yield)
    except Exception as error:
        if explanation := early.explanation:
            error.add_note(explanation)
        raise
    finally:
        early.stop()
        del item.config.stash[_EARLY]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Note which fixture is being set up."""
    early = request.config.stash.get(_EARLY, None)
    if early is None:
        return (yield)
    early.fixtures.append(fixturedef.argname)
    try:
        return (yield)
    finally:
        early.fixtures.pop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test whose requests are not in its cassette, even if it caught the error."""
    run = item.stash.get(_RUN, None)
    try:
        result = yield
    except BaseException as error:
        if run is not None:
            run.explain(error)
        raise
    if run is not None:
        run.fail_on_misses()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether a test has passed: a failed test writes no cassette, and its report says so."""
    report = yield
    run = item.stash.get(_RUN, None)
    if call.when == "call" and run is not None:
        run.has_passed = report.passed
    if run is not None and report.failed and call.when != "teardown":
        error = None if call.excinfo is None else call.excinfo.value
        if text := run.why_not_recorded(error):
            report.sections.append(("Ollama cassette", text))
    return report


# --- the fixture --------------------------------------------------------------------------


@pytest.fixture(autouse=True, name=_BY_MARKER)
def _by_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker(_NAME) is not None:
        request.getfixturevalue(_NAME)


@pytest.fixture
def ollama_replay(request: pytest.FixtureRequest) -> Iterator[ReplayedTest]:
    """Record the test's Ollama calls into a cassette, or answer them from it."""
    options = _options(request.node)
    path = _cassette_path(request.node, options)
    _check_owner(request.node, path)
    mode = request.config.getoption(_RECORD) or ("none" if _is_ci() else "once")
    is_recording = mode == "all" or (mode == "once" and not path.exists())
    if not is_recording and not path.exists():
        pytest.fail(_how_to_record(request.node, path), pytrace=False)
    run = request.node.stash[_RUN] = _Run(request.node.nodeid, path, is_recording=is_recording)
    # It is None if the test asks for this fixture while it runs.
    if early := request.config.stash.get(_EARLY, None):
        early.stop()
        if is_recording and early.explanation:
            request.node.warn(pytest.PytestWarning(early.explanation))
    replayed = ReplayedTest(path=path, is_recording=is_recording)
    if is_recording:
        with _recording(path, options, run):
            yield replayed
        return
    with _playing(path, options, run, is_strict=request.config.getoption("--ollama-strict")):
        yield replayed


def _recording(path: Path, options: _Options, run: _Run) -> AbstractContextManager[None]:
    from ollama_otel.replay._tested import recording  # noqa: PLC0415 - only for such a test

    return recording(
        path,
        redactors=options.redactors,
        is_wanted=lambda: run.has_passed,
        media=options.media,
    )


@contextmanager
def _playing(path: Path, options: _Options, run: _Run, *, is_strict: bool) -> Iterator[None]:
    from ollama_otel.replay._tested import playing  # noqa: PLC0415 - only for such a test

    with playing(
        path,
        speed=options.speed,
        ignore=options.ignore,
        repeat=options.repeat,
        redactors=options.redactors,
    ) as index:
        run.misses = index.misses
        yield
    # Misses of other fixtures, which end before this one.
    run.fail_on_misses()
    if is_strict and run.has_passed and index.unused:
        from ollama_otel._display import visible  # noqa: PLC0415 - only for such a test

        calls = visible(
            ", ".join(f"{call.start.endpoint.name} (call {call.id})" for call in index.unused)
        )
        pytest.fail(
            f"{path} has calls that the test did not make: {calls}; "
            "--ollama-record=all records it again",
            pytrace=False,
        )


def _check_owner(node: pytest.Item, path: Path) -> None:
    if path.is_dir():
        pytest.fail(f"expected the file of a cassette at {path}, found a folder", pytrace=False)
    owner = node.config.stash.setdefault(_OWNERS, {}).setdefault(path.resolve(), node.nodeid)
    if owner != node.nodeid:
        pytest.fail(
            f"expected a cassette of its own for each test, found {path} used by {owner} too: "
            "leave path out, or give each test another one",
            pytrace=False,
        )


def _options(node: pytest.Item) -> _Options:
    """Merge the markers of a test, its class and its module; the closest wins."""
    given: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers(_NAME))):
        if marker.args:
            raise pytest.UsageError(
                f"{node.nodeid}: ollama_replay takes named arguments only, found {marker.args}"
            )
        given |= marker.kwargs
    if isinstance(field := given.get("ignore"), str):
        raise pytest.UsageError(
            f"{node.nodeid}: ignore takes a list of fields, not one text: ignore=[{field!r}]"
        )
    try:
        return _Options(**given)
    except TypeError:
        raise pytest.UsageError(
            f"{node.nodeid}: expected {_MARKER.partition(':')[0]}, found {', '.join(given)}"
        ) from None


def _cassette_path(node: pytest.Item, options: _Options) -> Path:
    if options.path is not None:
        return node.path.parent / options.path
    within = node.nodeid.partition("::")[2] or node.name
    return node.path.parent / "cassettes" / node.path.stem / f"{_file_name(within)}.json"


def _file_name(test: str) -> str:
    """Return a unique name for a test, valid on every file system."""
    plain = test.replace("::", "-").replace("[", "-").removesuffix("]")
    name = _NOT_IN_NAMES.sub("_", plain)
    if name == plain and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(test.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[:_LONGEST_NAME]}-{digest}"


def _is_ci() -> bool:
    return os.environ.get("CI", "").strip().lower() not in {"", "0", "false"}


def _found_no_server(error: BaseException | None) -> bool:
    """Whether an error says that nothing listens where a client expected Ollama."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # The official client raises Python's own error, and httpx one of this name.
        if isinstance(error, ConnectionError) or type(error).__name__ == "ConnectError":
            return True
        error = error.__cause__ or error.__context__
    return False


def _how_to_record(node: pytest.Item, path: Path) -> str:
    return (
        f"expected a cassette at {path}, found none, and recording is off (CI is set, or "
        "--ollama-record=none). Record it where Ollama runs, and commit it:\n"
        f"  {_command('once', node.nodeid)}"
    )


def _command(mode: str, test: str) -> str:
    from ollama_otel._display import shell_command  # noqa: PLC0415 - only for such a test

    return shell_command(["pytest", f"{_RECORD}={mode}", test])
