"""The pytest plugin: what is recorded, what is played, and how a test fails that strays from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest

# What is imported here is not imported anew by each run inside of this one.
import ollama_otel
from ollama_otel.replay import _tested
from ollama_otel.testing import FakeOllama, Fault

pytestmark = [pytest.mark.processes, pytest.mark.sockets]

pytest_plugins = ["pytester"]

MODULE = "ollama_otel.pytest_plugin"
IMPORTED = (ollama, ollama_otel.Client, _tested)


class Project:
    """A project with tests that ask an Ollama, which can be gone."""

    def __init__(self, pytester: pytest.Pytester, fake: FakeOllama, url: str) -> None:
        self.pytester = pytester
        self.fake = fake
        self.url = url
        pytester.makeini("[pytest]\nfilterwarnings = error\n")

    def write(self, test: str, *, name: str = "test_app") -> None:
        opening = (
            "import asyncio, httpx, ollama, ollama_otel, pytest\n"
            f"URL = {self.url!r}\n"
            "HELLO = [{'role': 'user', 'content': 'Hello'}]\n"
        )
        self.pytester.makepyfile(**{name: opening + test})

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(
            "-p", MODULE, "-p", "no:cacheprovider", "--strict-markers", *arguments
        )

    def leave(self) -> None:
        """Let the server's address point nowhere."""
        for path in self.pytester.path.glob("test_*.py"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(self.url, "http://127.0.0.1:9"), encoding="utf-8")

    @property
    def asked(self) -> int:
        return len(self.fake.requests)

    def cassettes(self) -> dict[str, Path]:
        folder = self.pytester.path
        return {
            str(path.relative_to(folder)): path
            for path in sorted(folder.rglob("*"))
            if "cassettes" in path.parts and path.is_file()
        }

    def cassette(self) -> Path:
        (path,) = self.cassettes().values()
        return path


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.delenv("CI", raising=False)
    # Only ours, whether or not its entry point is installed here.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    fake = FakeOllama()
    with fake.serve() as url:
        yield Project(pytester, fake, url)


CHAT = """
@pytest.mark.ollama_replay
def test_chat():
    with ollama_otel.Client(URL) as client:
        assert client.chat('llama3.2', messages=HELLO).message.content.startswith('Hello!')
"""


@pytest.mark.parametrize(
    "test",
    [
        CHAT,
        """
def test_by_fixture(ollama_replay):
    client = ollama.Client(URL)
    parts = list(client.chat('llama3.2', messages=HELLO, stream=True))
    assert parts[-1].done and len(parts) > 5
    client._client.close()
""",
        """
@pytest.mark.ollama_replay
def test_async():
    async def ask():
        client = ollama.AsyncClient(URL)
        parts = [part async for part in await client.chat('llama3.2', messages=HELLO, stream=True)]
        vector = (await client.embed('nomic-embed-text', input='Hello')).embeddings[0]
        await client._client.aclose()
        return parts, vector
    parts, vector = asyncio.run(ask())
    assert parts[-1].done
    assert len(vector) > 10 and all(isinstance(number, float) for number in vector)
""",
        """
@pytest.mark.ollama_replay
def test_image():
    with ollama_otel.Client(URL) as client:
        png = b'\\x89PNG\\r\\n\\x1a\\n123'
        answer = client.generate('llama3.2', prompt='What is it?', images=[png])
        assert answer.response
""",
        """
@pytest.mark.ollama_replay
def test_failure():
    with ollama_otel.Client(URL) as client:
        with pytest.raises(ollama.ResponseError, match='not found') as raised:
            client.chat('nope', messages=HELLO)
        assert raised.value.status_code == 404
""",
        """
@pytest.mark.ollama_replay
def test_other_client():
    with httpx.Client() as client:
        answer = client.post(f'{URL}/api/show', json={'model': 'llama3.2'})
    assert answer.json()['capabilities']
""",
        """
@pytest.fixture
def asked():
    with ollama_otel.Client(URL) as client:
        yield client.chat('llama3.2', messages=HELLO).message.content
        client.list()

@pytest.mark.ollama_replay
def test_with_a_fixture_that_asks(asked):
    assert asked.startswith('Hello!')
""",
        """
import unittest
@pytest.mark.ollama_replay
class TestCase(unittest.TestCase):
    def test_it(self):
        with ollama_otel.Client(URL) as client:
            self.assertTrue(client.chat('llama3.2', messages=HELLO).message.content)
""",
    ],
)
def test_calls_are_recorded_once_and_played_when_the_server_is_gone(
    project: Project, test: str
) -> None:
    project.write(test)
    project.run().assert_outcomes(passed=1)
    asked, content = project.asked, project.cassette().read_bytes()
    assert asked
    project.leave()
    project.run("--ollama-strict").assert_outcomes(passed=1)
    assert project.asked == asked
    assert project.cassette().read_bytes() == content


@pytest.mark.parametrize("media", [False, True])
def test_a_cassette_has_the_hash_of_an_image_and_plays_unless_media_are_wanted(
    project: Project, media: bool
) -> None:
    project.write(
        f"""
@pytest.mark.ollama_replay(media={media})
def test_image():
    with ollama_otel.Client(URL) as client:
        png = b'\\x89PNG\\r\\n\\x1a\\n123'
        answer = client.generate('llama3.2', prompt='What is it?', images=[png])
        assert len(client.embed('nomic-embed-text', input='Hello').embeddings[0]) > 10
"""
    )
    project.run().assert_outcomes(passed=1)
    [asked, _] = json.loads(project.cassette().read_text(encoding="utf-8"))["calls"]
    [image] = asked["request"]["body"]["images"]
    if media:
        assert image == "iVBORw0KGgoxMjM="
    else:
        assert (image["ollama_otel"], image["size"], image["type"]) == ("omitted", 11, "image/png")
    project.leave()
    project.run("--ollama-strict").assert_outcomes(passed=1)


def test_a_cassette_is_named_after_file_and_test(project: Project) -> None:
    project.write(
        CHAT
        + """
class TestGroup:
    @pytest.mark.parametrize('name', ['a', 'b/c', 'b_c', 'x' * 300])
    def test_each(self, name, ollama_replay):
        assert ollama_replay.is_recording
"""
    )
    project.run().assert_outcomes(passed=5)
    names = [
        Path(name).relative_to("cassettes/test_app").as_posix() for name in project.cassettes()
    ]
    assert "test_chat.json" in names
    assert "TestGroup-test_each-a.json" in names
    assert "TestGroup-test_each-b_c.json" in names
    assert len(set(names)) == 5
    assert all(len(name) <= 120 for name in names)


def test_path_and_the_other_arguments_come_from_all_markers(project: Project) -> None:
    project.write(
        """
pytestmark = pytest.mark.ollama_replay(path='calls/mine.json', ignore=['options.seed'])
import random

@pytest.mark.ollama_replay(redactors=[lambda text: text.replace('Hello', 'Bonjour')])
def test_chat():
    with ollama_otel.Client(URL) as client:
        client.chat('llama3.2', messages=HELLO, options={'seed': random.randrange(10**9)})
"""
    )
    project.run().assert_outcomes(passed=1)
    text = (project.pytester.path / "calls" / "mine.json").read_text(encoding="utf-8")
    assert "Bonjour" in text
    assert "Hello" not in text
    project.leave()
    project.run().assert_outcomes(passed=1)


@pytest.mark.parametrize("argument", ["'x.json'", "folder='x'"])
def test_an_unknown_argument_is_told(project: Project, argument: str) -> None:
    project.write(f"@pytest.mark.ollama_replay({argument})\ndef test_it(): pass\n")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_app.py::test_it: *"])


def test_a_request_that_differs_fails_with_the_nearest_one(project: Project) -> None:
    project.write(CHAT)
    project.run()
    path = project.pytester.path / "test_app.py"
    path.write_text(path.read_text(encoding="utf-8").replace("'Hello'}", "'Goodbye'}"), "utf-8")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*ReplayMissError*",
            "*messages?0?.content: logged 'Hello', asked 'Goodbye'*",
            "*To record the cassette again: pytest --ollama-record=all test_app.py::test_chat*",
        ]
    )


@pytest.mark.parametrize("after", ["pass", "raise RuntimeError('no answer')"])
def test_a_miss_that_the_app_swallows_fails_the_test_all_the_same(
    project: Project, after: str
) -> None:
    test = f"""
@pytest.mark.ollama_replay
def test_chat(ollama_replay):
    with ollama_otel.Client(URL) as client:
        if ollama_replay.is_recording:
            return
        try:
            client.chat('llama3.2', messages=HELLO)
        except Exception:
            {after}
"""
    project.write(test)
    project.run().assert_outcomes(passed=1)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*POST /api/chat*has no answer*"])
    assert result.stdout.str().count("has no answer") <= 2
    assert "pytest --ollama-record=all test_app.py::test_chat" in result.stdout.str()


def test_a_miss_in_a_fixtures_end_is_an_error(project: Project) -> None:
    project.write(
        """
@pytest.fixture
def late(ollama_replay):
    yield
    if not ollama_replay.is_recording:
        with ollama_otel.Client(URL) as client, pytest.raises(ollama_otel.OllamaOtelError):
            client.list()

def test_it(late): pass
"""
    )
    project.run().assert_outcomes(passed=1)
    project.run().assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(
    "end", ["assert 0", "pytest.skip('no')", "pytest.xfail('no')", "raise SystemExit"]
)
def test_a_test_that_does_not_pass_leaves_no_cassette(project: Project, end: str) -> None:
    project.write(CHAT + f"        {end}\n")
    project.run()
    assert project.asked == 1
    assert project.cassettes() == {}


def test_a_failing_unittest_leaves_no_cassette(project: Project) -> None:
    project.write(
        """
import unittest
@pytest.mark.ollama_replay
class TestCase(unittest.TestCase):
    def test_it(self):
        with ollama_otel.Client(URL) as client:
            client.list()
        self.fail()
"""
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*As it failed, its cassette *test_it.json is not written.*"])
    assert project.cassettes() == {}


@pytest.mark.parametrize("client", ["ollama_otel.Client", "ollama.Client", "httpx.Client"])
def test_without_a_server_the_first_run_says_that_it_records(project: Project, client: str) -> None:
    ask = "client.get(URL + '/api/tags')" if client.startswith("httpx") else "client.list()"
    arguments = "" if client.startswith("httpx") else "URL"
    project.write(
        f"@pytest.mark.ollama_replay\ndef test_it():\n"
        f"    with {client}({arguments}) as client:\n        {ask}\n"
    )
    project.leave()
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*test_it.json is not written.*There is no server: start Ollama to record*"]
    )


@pytest.mark.parametrize("end", ["assert 0", "pytest.fail('no')", "raise SystemExit"])
def test_a_failing_test_says_that_it_leaves_no_cassette(project: Project, end: str) -> None:
    project.write(CHAT + f"        {end}\n")
    text = project.run().stdout.str()
    assert text.count("As it failed, its cassette ") == 1
    assert "There is no server" not in text
    project.write(CHAT)
    assert "The test was recorded" not in project.run().stdout.str()
    # It plays now, and what fails is not the recording.
    project.write(CHAT + f"        {end}\n")
    assert "The test was recorded" not in project.run().stdout.str()
    assert "test_chat.json stays as it was." in project.run("--ollama-record").stdout.str()


def test_a_skipped_test_says_nothing_of_recording(project: Project) -> None:
    project.write(CHAT + "        pytest.skip('no')\n")
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    assert "The test was recorded" not in result.stdout.str()


def test_recording_anew_replaces_the_cassette_only_if_the_test_passes(project: Project) -> None:
    project.write(CHAT)
    project.run()
    before = project.cassette().read_bytes()
    project.fake.fault("/api/chat", Fault(error_at=0))
    project.run("--ollama-record=all").assert_outcomes(failed=1)
    assert project.cassette().read_bytes() == before
    project.run("--ollama-record").assert_outcomes(passed=1)
    assert project.cassette().read_bytes() != before
    assert project.asked == 3


@pytest.mark.parametrize(
    ("ci", "arguments"), [("true", []), ("1", []), ("", ["--ollama-record=none"])]
)
def test_where_nothing_is_recorded_a_missing_cassette_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, ci: str, arguments: list[str]
) -> None:
    monkeypatch.setenv("CI", ci)
    project.write(CHAT)
    result = project.run(*arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*expected a cassette at *test_chat.json, found none*",
            "*pytest --ollama-record=once test_app.py::test_chat*",
        ]
    )
    assert (project.asked, project.cassettes()) == (0, {})


def test_in_ci_a_cassette_can_be_recorded_on_demand(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    project.write(CHAT)
    project.run("--ollama-record=once").assert_outcomes(passed=1)
    project.leave()
    project.run().assert_outcomes(passed=1)


@pytest.mark.parametrize("arguments", [["--ollama-record=alll"], ["--ollama-record", "alll"]])
def test_a_wrong_mode_is_told(project: Project, arguments: list[str]) -> None:
    project.write(CHAT)
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*expected one of once, all, none, or a path*found 'alll'*"])


@pytest.mark.parametrize("path", ["test_app.py", "test_app.py::test_chat", "."])
def test_a_path_may_follow_the_option_to_record(project: Project, path: str) -> None:
    project.write(CHAT)
    project.write(CHAT, name="test_other")
    project.run().assert_outcomes(passed=2)
    passed = 2 if path == "." else 1
    project.run("--ollama-record", path).assert_outcomes(passed=passed)
    assert project.asked == 2 + passed
    project.run("--ollama-record", "none", path).assert_outcomes(passed=passed)
    assert project.asked == 2 + passed


def test_calls_that_are_no_longer_made_fail_a_strict_run_only(project: Project) -> None:
    project.write(CHAT + "        client.list()\n")
    project.run().assert_outcomes(passed=1)
    project.write(CHAT)
    project.run().assert_outcomes(passed=1)
    result = project.run("--ollama-strict")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*has calls that the test did not make: list_models (call 2)*"])


def test_a_request_can_be_made_more_often_than_it_was_recorded(project: Project) -> None:
    test = """
@pytest.mark.ollama_replay(repeat=True)
def test_poll():
    with ollama_otel.Client(URL) as client:
        for _ in range(TIMES):
            client.ps()
"""
    project.write(test.replace("TIMES", "2"))
    project.run().assert_outcomes(passed=1)
    project.write(test.replace("TIMES", "5"))
    project.leave()
    project.run().assert_outcomes(passed=1)


WIDE = """
@pytest.fixture(scope='SCOPE')
def ready():
    with ollama_otel.Client(URL) as client:
        client.list()

@pytest.fixture
def asked(ready):
    with ollama_otel.Client(URL) as client:
        client.ps()

@pytest.mark.ollama_replay
def test_chat(asked):
    with ollama_otel.Client(URL) as client:
        client.chat('llama3.2', messages=HELLO)
"""


@pytest.mark.parametrize("scope", ["module", "session"])
def test_calls_of_wide_fixtures_are_named_where_they_are_missing(
    project: Project, scope: str
) -> None:
    project.write(WIDE.replace("SCOPE", scope))
    named = "*found GET /api/tags of the fixture 'ready' before the cassette is in use*"
    result = project.run("-W", "default::pytest.PytestWarning")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines([named])
    result.stdout.no_fnmatch_line("*/api/ps of*")
    project.run().assert_outcomes(passed=1)
    project.leave()
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ConnectionError*", named])


def test_calls_of_fixtures_are_recorded_where_they_belong_to_one_test(project: Project) -> None:
    project.write(WIDE.replace("SCOPE", "function"))
    project.run().assert_outcomes(passed=1)
    project.leave()
    project.run().assert_outcomes(passed=1)


def test_a_test_can_ask_for_the_fixture_while_it_runs(project: Project) -> None:
    project.write(
        """
def test_it(request):
    request.getfixturevalue('ollama_replay')
    with ollama_otel.Client(URL) as client:
        client.list()
"""
    )
    project.run().assert_outcomes(passed=1)
    project.leave()
    project.run().assert_outcomes(passed=1)


def test_a_fixture_before_ours_is_named(project: Project) -> None:
    project.write(
        """
@pytest.fixture
def ready():
    with ollama_otel.Client(URL) as client:
        client.list()

def test_it(ready, ollama_replay): pass
"""
    )
    result = project.run("-W", "default::pytest.PytestWarning")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*GET /api/tags of the fixture 'ready' before*"])


def test_a_stream_left_open_is_told_instead_of_recorded(project: Project) -> None:
    project.write(
        """
KEPT = []
@pytest.mark.ollama_replay
def test_stream():
    client = ollama_otel.Client(URL)
    stream = client.chat('llama3.2', messages=HELLO, stream=True)
    next(stream)
    KEPT.append((client, stream))

def test_end():
    ((client, stream),) = KEPT
    stream.close()
    client.close()
"""
    )
    result = project.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*expected every call to end with its test, and POST /api/chat*"])
    assert project.cassettes() == {}


def test_a_stream_that_is_left_early_can_be_played(project: Project) -> None:
    project.write(
        """
@pytest.mark.ollama_replay
def test_stream():
    with ollama_otel.Client(URL) as client:
        stream = client.chat('llama3.2', messages=HELLO, stream=True)
        assert next(stream).message.content
        stream.close()
"""
    )
    project.run().assert_outcomes(passed=1)
    project.leave()
    project.run().assert_outcomes(passed=1)


def test_no_secret_goes_into_a_cassette_and_it_is_played_all_the_same(project: Project) -> None:
    key = "sk-" + "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ"
    project.write(CHAT.replace("HELLO", f"[{{'role': 'user', 'content': 'Hello {key}'}}]"))
    project.run().assert_outcomes(passed=1)
    text = project.cassette().read_text(encoding="utf-8")
    assert key not in text
    assert "[redacted" in text
    project.leave()
    project.run().assert_outcomes(passed=1)


def test_a_cassette_has_nothing_of_the_run_that_recorded_it(project: Project) -> None:
    project.write(
        """
from ollama_otel.testing import Capture
@pytest.mark.ollama_replay
def test_chat():
    capture = Capture()
    with ollama_otel.Client(URL, tracer_provider=capture.tracer_provider) as client:
        client.chat('llama3.2', messages=HELLO)
    assert len(capture.spans) == 1
"""
    )
    project.run().assert_outcomes(passed=1)
    (call,) = json.loads(project.cassette().read_bytes())["calls"]
    assert call["request"]["id"] == call["end"]["id"] == "1"
    assert not {"trace_id", "span_id", "sampled"} & call["request"].keys()


def test_a_broken_cassette_is_told(project: Project) -> None:
    project.write(CHAT)
    project.run()
    path = project.cassette()
    path.write_bytes(path.read_bytes()[:-100])
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ReplayLogError: *test_chat.json, line *"])


def test_other_tests_reach_the_server_as_ever(project: Project) -> None:
    project.write(CHAT + CHAT.replace("@pytest.mark.ollama_replay", "").replace("_chat", "_plain"))
    project.run().assert_outcomes(passed=2)
    project.run().assert_outcomes(passed=2)
    assert project.asked == 3
    assert len(project.cassettes()) == 1


def test_the_marker_is_registered(project: Project) -> None:
    project.run("--markers").stdout.fnmatch_lines(["@pytest.mark.ollama_replay(path=None, *"])


def test_the_plugin_imports_nothing_of_ours_before_it_is_used() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import ollama_otel.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    imported = set(done.stdout.split())
    assert not {"httpx", "ollama", "opentelemetry", "rich", "ollama_otel.replay"} & imported
    assert {name for name in imported if name.startswith("ollama_otel")} == {
        "ollama_otel",
        "ollama_otel.pytest_plugin",
    }


def test_two_tests_cannot_share_a_cassette(project: Project) -> None:
    test = CHAT.replace("ollama_replay", "ollama_replay(path='x/../mine.json')")
    project.write(test + test.replace("_chat", "_other").replace("x/../", ""))
    result = project.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*a cassette of its own*used by test_app.py::test_chat too*"])


def test_a_folder_in_a_cassettes_place_is_told(project: Project) -> None:
    project.write(CHAT)
    (project.pytester.path / "cassettes" / "test_app" / "test_chat.json").mkdir(parents=True)
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*expected the file of a cassette at *test_chat.json, found a f*"])


def test_one_text_to_ignore_is_refused_before_anything_is_recorded(project: Project) -> None:
    project.write(CHAT.replace("ollama_replay", "ollama_replay(ignore='options.seed')"))
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*not one text: ignore=?'options.seed'?*"])
    assert project.asked == 0
