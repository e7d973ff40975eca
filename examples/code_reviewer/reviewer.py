"""A code reviewer: a model reads a diff, looks into the repository by a tool, and lists findings.

    pip install ollama_otel
    git diff main | python examples/code_reviewer/reviewer.py --repository .

It prints a line for each finding; the exit status is 1 if there is an error among them, and 2 if a
file could not be reviewed. OLLAMA_MODEL names another model than llama3.2.

All spans of a review have its repository, pull request and reviewer as tags. Calls that fail in
passing are made again, and at most two run at the same time, for all reviews of this process.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ollama import ResponseError
from opentelemetry import trace
from pydantic import BaseModel, Field

from ollama_otel import Client, call_context, configure
from ollama_otel.resilience import CallRejectedError, Limiter, Resilience, Retries
from ollama_otel.structured import OutputMismatchError
from ollama_otel.tools import Agent, AgentRunError

tracer = trace.get_tracer(__name__)

MODEL = os.environ.get("OLLAMA_MODEL", "llama3.2")
SYSTEM = (
    "You review a change of a program. Read the files that you need by the tool. "
    "Say in a few sentences what is wrong, or that all is right."
)
LONGEST_FILE = 8_000
"""Characters of a file that the model is shown at once."""


class Finding(BaseModel):
    """One thing that should be changed."""

    line: int | None = Field(ge=1)
    severity: Literal["error", "warning", "hint"]
    message: str = Field(max_length=500)


class Findings(BaseModel):
    """What the model says about one file."""

    findings: list[Finding] = Field(max_length=20)


@dataclass(frozen=True, kw_only=True)
class FileReview:
    """What came of the review of one file."""

    path: str
    findings: Sequence[Finding] = ()
    problem: str | None = None
    """Why there are no findings, if the file could not be reviewed."""


class Reviewer:
    """Reviews the changes of one pull request."""

    def __init__(
        self,
        client: Client,
        repository: Path,
        *,
        model: str = MODEL,
        name: str = "reviewer",
        pull_request: str = "",
    ) -> None:
        self._client = client
        self._repository = repository.resolve()
        self._model = model
        self._tags = {"repository": self._repository.name, "reviewer": name}
        if pull_request:
            self._tags["pull_request"] = pull_request
        self._agent = Agent(
            *(client, model, [self.read_file]),
            name=name,
            system=SYSTEM,
            max_rounds=5,
            at_limit="answer",
            tool_timeout=10,
            options={"temperature": 0},
        )

    def review(self, diff: str) -> list[FileReview]:
        """Review each file of a diff, as `git diff` prints it."""
        changes = files_of(diff)
        with (
            tracer.start_as_current_span("review"),
            call_context(tags=self._tags),
            ThreadPoolExecutor(4) as threads,
        ):
            # Each thread gets the context: the tags, and the span of the caller.
            contexts = [copy_context() for _ in changes]
            return list(
                threads.map(
                    lambda context, path: context.run(self._review, path, changes[path]),
                    contexts,
                    changes,
                )
            )

    def _review(self, path: str, change: str) -> FileReview:
        shown = shortened(change)
        try:
            notes = self._notes(path, shown)
            asked = f"Write down the findings of this review of {path}.\n\n{shown}\n\n{notes}"
            found = self._client.extract(
                Findings, asked, model=self._model, attempts=2, options={"temperature": 0}
            )
        except AgentRunError as error:
            return FileReview(path=path, problem=f"the model gave no answer ({error.run.ending})")
        except OutputMismatchError as error:
            return FileReview(path=path, problem=f"the model's findings are {error.outcome}")
        except (ResponseError, ConnectionError, CallRejectedError) as error:
            return FileReview(path=path, problem=str(error))
        lines = len((self._repository / path).read_bytes().splitlines())
        return FileReview(path=path, findings=[placed(each, lines) for each in found.findings])

    def _notes(self, path: str, change: str) -> str:
        """Let the model look around; what it says is not yet in any form."""
        try:
            return self._agent.run(f"Review the change of {path}:\n\n{change}").text
        except AgentRunError as error:
            if error.run.ending in {"empty_answer", "cut_answer"}:
                # The change alone may do.
                return error.run.text
            raise

    def read_file(self, path: str, first_line: int = 1) -> str:
        """Read a file of the repository.

        Args:
            path: its path in the repository, such as src/app.py.
            first_line: the line to begin with.
        """
        file = (self._repository / path).resolve()
        # What a model asks for is untrusted: nothing outside of the repository is read.
        if not file.is_relative_to(self._repository) or ".git" in file.parts:
            raise PermissionError(f"{path} is not in the repository")
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[first_line - 1 :]
        numbered = (f"{number}: {line}" for number, line in enumerate(lines, first_line))
        return shortened("\n".join(numbered))


def placed(finding: Finding, lines: int) -> Finding:
    """Return a finding without its line, if its file has no such line: models make them up."""
    is_known = finding.line is not None and finding.line <= lines
    return finding if is_known else finding.model_copy(update={"line": None})


def files_of(diff: str) -> dict[str, str]:
    """Return the parts of a diff, by the path of the file that each changes; none for deletions."""
    parts = re.split(r"^(?=diff --git )", diff, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for part in parts:
        if match := re.search(r"^\+\+\+ b/(.+)$", part, flags=re.MULTILINE):
            found[match[1].rstrip()] = part
    return found


def shortened(text: str) -> str:
    if len(text) <= LONGEST_FILE:
        return text
    return text[:LONGEST_FILE] + f"\n[{len(text) - LONGEST_FILE} more characters]"


def connected() -> Client:
    """Return the client of all reviews: its limits hold for them together."""
    resilience = Resilience(
        retries=Retries(3),
        limiter=Limiter(concurrency=2, max_wait=600, key="conversation"),
        deadline=900,
    )
    return Client(resilience=resilience)


def main(arguments: Sequence[str] | None = None) -> int:
    """Review the diff on the standard input."""
    parser = argparse.ArgumentParser(description="Review the diff on the standard input.")
    parser.add_argument("--repository", type=Path, default=Path(), help="folder of the repository")
    parser.add_argument("--pull-request", default="", help="its number, for the traces")
    options = parser.parse_args(arguments)
    with configure(service_name="code-reviewer"), connected() as client:
        reviewer = Reviewer(client, options.repository, pull_request=options.pull_request)
        reviews = reviewer.review(sys.stdin.read())
    if not reviews:
        print("expected a diff as `git diff` prints it, found none", file=sys.stderr)
        return 2
    for review in reviews:
        if review.problem is not None:
            print(f"{review.path}: not reviewed: {review.problem}", file=sys.stderr)
        for finding in review.findings:
            place = review.path if finding.line is None else f"{review.path}:{finding.line}"
            print(f"{place}: {finding.severity}: {finding.message}")
    if any(review.problem for review in reviews):
        return 2
    return int(any(each.severity == "error" for review in reviews for each in review.findings))


if __name__ == "__main__":
    sys.exit(main())
