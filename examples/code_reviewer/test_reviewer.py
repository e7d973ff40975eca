"""Tests of the reviewer: its calls of Ollama are played from cassettes, so none is needed.

    pytest --import-mode=prepend examples/code_reviewer

With an Ollama, `--ollama-record=all` and a model in OLLAMA_MODEL record them anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from reviewer import FileReview, Finding, Reviewer, connected, files_of, placed

from ollama_otel import Client

MODEL = os.environ.get("OLLAMA_MODEL", "tiny-agent")
DIFF = """\
diff --git a/area.py b/area.py
--- a/area.py
+++ b/area.py
@@ -1,2 +1,2 @@
 def area(width, height):
-    return width * height
+    return width + height
diff --git a/old.py b/old.py
deleted file mode 100644
--- a/old.py
+++ /dev/null
@@ -1 +0,0 @@
-x = 1
"""


@pytest.fixture
def client() -> Iterator[Client]:
    with connected() as client:
        yield client


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "area.py").write_text("def area(width, height):\n    return width + height\n")
    return tmp_path


@pytest.mark.ollama_replay
def test_each_changed_file_is_reviewed(client: Client, repository: Path) -> None:
    [review] = Reviewer(client, repository, model=MODEL).review(DIFF)
    assert review.path == "area.py"
    assert review.problem is None
    for finding in review.findings:
        assert finding.message
        assert finding.line in {None, 1, 2}


def test_a_server_that_is_down_is_a_problem_and_no_crash(repository: Path) -> None:
    with Client("http://127.0.0.1:9") as client:
        [review] = Reviewer(client, repository, model=MODEL).review(DIFF)
    assert review.problem is not None
    assert "Failed to connect" in review.problem


def test_the_model_reads_nothing_outside_of_the_repository(
    client: Client, repository: Path
) -> None:
    reviewer = Reviewer(client, repository, model=MODEL)
    assert reviewer.read_file("area.py", 2) == "2:     return width + height"
    (repository / "link").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", "../other", "link", ".git/config"):
        with pytest.raises(PermissionError):
            reviewer.read_file(path)


def test_a_line_that_the_file_does_not_have_is_left_out() -> None:
    found = Finding(line=3, severity="hint", message="Odd.")
    assert placed(found, lines=3) == found
    assert placed(found, lines=2).line is None


def test_a_diff_is_divided_by_file() -> None:
    assert list(files_of(DIFF)) == ["area.py"]
    assert files_of("nothing") == {}
    assert FileReview(path="a").findings == ()
