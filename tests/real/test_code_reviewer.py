"""The example `code_reviewer` on a real Ollama."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.collector import collecting

from .servers import RealOllama

EXAMPLE = Path(__file__).parents[2] / "examples" / "code_reviewer" / "reviewer.py"
DIFF = """\
diff --git a/{0} b/{0}
--- a/{0}
+++ b/{0}
@@ -1 +1 @@
-x = 1
+x = 2
"""
FILES = ("one.py", "two.py", "three.py")


def test_all_files_are_reviewed_in_one_trace(real_ollama: RealOllama, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text("x = 2\n")
    with collecting() as collector:
        done = subprocess.run(
            [sys.executable, EXAMPLE, "--repository", tmp_path, "--pull-request", "7"],
            input="".join(map(DIFF.format, FILES)),
            env={
                **os.environ,
                "OLLAMA_HOST": real_ollama.url,
                "OLLAMA_MODEL": "tiny-agent",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        spans = [span for _, span in collector._spans()]
        tree = collector.tree()
    # What the tiny model says is noise, but it is typed, or said to be missing.
    for line in done.stdout.splitlines():
        assert re.match(r"(one|two|three)\.py(:1)?: (error|warning|hint): ", line)
    for line in done.stderr.splitlines():
        assert re.match(r"(one|two|three)\.py: not reviewed: ", line)
    assert done.returncode == (2 if done.stderr else int(": error: " in done.stdout))
    assert set(tree) == {"review"}
    assert tree["review"].count("invoke_agent reviewer") == len(FILES)
    assert len({span.trace_id for span in spans}) == 1
    for span in spans:
        tags = {
            each.key: each.value.string_value for each in span.attributes if ".tag." in each.key
        }
        expected = {
            "ollama.tag.repository": tmp_path.name,
            "ollama.tag.pull_request": "7",
            "ollama.tag.reviewer": "reviewer",
        }
        assert tags == ({} if span.name == "review" else expected), span.name
