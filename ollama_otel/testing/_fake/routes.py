"""The fake server's route table, and its replies to all requests but inference."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from ollama_otel._wire.model_names import full_name
from ollama_otel.testing._fake.go import BARE_JSON, RefusalError, decode_object, go_json
from ollama_otel.testing._fake.inference import Inference
from ollama_otel.testing._fake.models import FakeModel, Library, digest
from ollama_otel.testing._fake.reply import Received, Reply

_TEXT = "text/plain"
_BLOBS = "/api/blobs/"
_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
_PULLED_AT_ONCE = 4
"""Progress lines for one layer; a real server sends one every 60 ms."""

Answer = Callable[[Received], Reply]


class Routes:
    """Finds the reply to a request; turns refusals into error replies."""

    def __init__(
        self, library: Library, inference: Inference, *, version: str, clock: Callable[[], float]
    ) -> None:
        self._library = library
        self._version = version
        self._clock = clock
        self._blobs: set[str] = set()
        search, fetch = self._web_search, self._web_fetch
        self._table: Mapping[str, Mapping[str, Answer]] = {
            "/": {"GET": _is_running, "HEAD": _is_running},
            "/api/version": {"GET": self._show_version, "HEAD": self._show_version},
            "/api/status": {"GET": _status},
            "/api/generate": {"POST": inference.generate},
            "/api/chat": {"POST": inference.chat},
            "/api/embed": {"POST": inference.embed},
            "/api/embeddings": {"POST": inference.embeddings},
            "/api/tags": {"GET": self._tags, "HEAD": self._tags},
            "/api/ps": {"GET": self._ps},
            "/api/show": {"POST": self._show},
            "/api/create": {"POST": self._create},
            "/api/copy": {"POST": self._copy},
            "/api/delete": {"DELETE": self._delete},
            "/api/pull": {"POST": self._pull},
            "/api/push": {"POST": self._push},
            _BLOBS: {"HEAD": self._head_blob, "POST": self._post_blob},
            "/api/experimental/web_search": {"POST": search},
            "/api/experimental/web_fetch": {"POST": fetch},
            "/api/web_search": {"POST": search},
            "/api/web_fetch": {"POST": fetch},
        }

    def answer(self, received: Received) -> Reply:
        """Return the reply to a request, without faults."""
        path = _BLOBS if received.path.startswith(_BLOBS) else received.path
        methods = self._table.get(path)
        if methods is None:
            return Reply.whole(b"404 page not found", _TEXT, status=404)
        if received.method not in methods:
            return Reply.whole(b"405 method not allowed", _TEXT, status=405)
        try:
            return methods[received.method](received)
        except RefusalError as refusal:
            return Reply.error(refusal.status, refusal.text, refusal.content_type)

    def _show_version(self, _: Received) -> Reply:
        return Reply.json({"version": self._version})

    def _tags(self, _: Received) -> Reply:
        return Reply.json({"models": self._library.tags(self._clock())})

    def _ps(self, _: Received) -> Reply:
        return Reply.json({"models": self._library.ps(self._clock())})

    def _show(self, received: Received) -> Reply:
        name = _model_name(decode_object(received.body, "ShowRequest"))
        # Only this route has the full name in its error.
        model = self._find(name, f"model '{full_name(name)}' not found")
        return Reply.json(self._library.show(model, self._clock()))

    def _copy(self, received: Received) -> Reply:
        request = decode_object(received.body, "CopyRequest")
        source, destination = request.get("source", ""), request.get("destination", "")
        for role, name in (("source", source), ("destination", destination)):
            if not name:
                raise RefusalError(400, f'{role} "" is invalid')
        self._library.add(destination, self._find(source, f'model "{source}" not found'))
        return Reply.whole(b"", "")

    def _delete(self, received: Received) -> Reply:
        request = decode_object(received.body, "DeleteRequest")
        name = request.get("model") or request.get("name", "")
        if not name:
            raise RefusalError(400, 'name "" is invalid')
        self._find(name, f"model '{name}' not found")
        self._library.remove(name)
        return Reply.whole(b"", "")

    def _create(self, received: Received) -> Reply:
        request = decode_object(received.body, "CreateRequest")
        name, source = _model_name(request), request.get("from")
        if not source and not request.get("files"):
            raise RefusalError(400, "neither 'from' or 'files' was specified", BARE_JSON)
        model = self._library.pull(source) if source else FakeModel(name)
        if model is None:
            error = {"error": "pull model manifest: file does not exist"}
            return _progress(request, [{"status": "pulling manifest"}, error])
        self._library.add(name, model)
        layer = f"using existing layer sha256:{digest(model.name)}"
        steps = [layer, "writing manifest", "success"]
        return _progress(request, [{"status": step} for step in steps])

    def _pull(self, received: Received) -> Reply:
        request = decode_object(received.body, "PullRequest")
        name = _model_name(request)
        model = self._library.pull(name)
        if model is None:
            error = {"error": "pull model manifest: file does not exist"}
            return _progress(request, [{"status": "pulling manifest"}, error])
        steps = ["verifying sha256 digest", "writing manifest", "success"]
        transfer = _transfer("pulling", model)
        ends = [{"status": step} for step in steps]
        return _progress(request, [{"status": "pulling manifest"}, *transfer, *ends])

    def _push(self, received: Received) -> Reply:
        request = decode_object(received.body, "PushRequest")
        model = self._library.find(_model_name(request))
        begin = {"status": "retrieving manifest"}
        if model is None:
            return _progress(request, [begin, {"error": "file does not exist"}])
        ends = [{"status": "pushing manifest"}, {"status": "success"}]
        return _progress(request, [begin, *_transfer("pushing", model), *ends])

    def _head_blob(self, received: Received) -> Reply:
        name = _blob_digest(received)
        if name not in self._blobs:
            raise RefusalError(404, f'blob "{name}" not found')
        return Reply.whole(b"", "")

    def _post_blob(self, received: Received) -> Reply:
        name = _blob_digest(received)
        if name in self._blobs:
            return Reply.whole(b"", "")
        found = f"sha256:{hashlib.sha256(received.body).hexdigest()}"
        if found != name:
            raise RefusalError(400, f'digest mismatch, expected "{name}", got "{found}"')
        self._blobs.add(name)
        return Reply.whole(b"", "", status=201)

    def _web_search(self, received: Received) -> Reply:
        request = decode_object(received.body, "WebSearchRequest")
        query, count = request.get("query", ""), request.get("max_results", 5)
        if not query:
            raise RefusalError(400, "query is required")
        results = [
            {
                "title": f"Result {number} for {query}",
                "url": f"https://example.com/{number}",
                "content": f"What page {number} says about {query}.",
            }
            for number in range(1, count + 1)
        ]
        return Reply.json({"results": results})

    def _web_fetch(self, received: Received) -> Reply:
        url = decode_object(received.body, "WebFetchRequest").get("url", "")
        if not url:
            raise RefusalError(400, "url is required")
        page = {"title": "A page", "content": f"What {url} says.", "links": [f"{url}#top"]}
        return Reply.json(page)

    def _find(self, name: str, not_found: str) -> FakeModel:
        model = self._library.find(name)
        if model is None:
            raise RefusalError(404, not_found)
        return model


def _is_running(_: Received) -> Reply:
    return Reply.whole(b"Ollama is running", f"{_TEXT}; charset=utf-8")


def _status(_: Received) -> Reply:
    return Reply.json({"cloud": {"disabled": False, "source": "none"}})


def _model_name(request: Mapping[str, Any]) -> str:
    name: str = request.get("model") or request.get("name", "")
    if not name:
        raise RefusalError(400, "model is required")
    return name


def _blob_digest(received: Received) -> str:
    name = received.path.removeprefix(_BLOBS)
    if not _DIGEST.fullmatch(name):
        raise RefusalError(400, "invalid digest format")
    return name


def _transfer(verb: str, model: FakeModel) -> list[dict[str, Any]]:
    name = digest(full_name(model.name))
    step = {"status": f"{verb} {name[:12]}", "digest": f"sha256:{name}", "total": model.size}
    shares = range(1, _PULLED_AT_ONCE + 1)
    return [step | {"completed": model.size * share // _PULLED_AT_ONCE} for share in shares]


def _progress(request: Mapping[str, Any], parts: list[dict[str, Any]]) -> Reply:
    """Return a progress stream, or only its end; an error after the first line has status 200."""
    if request.get("stream", True):
        return Reply.stream(parts)
    if "error" in parts[-1]:
        return Reply.error(500, parts[-1]["error"], BARE_JSON)
    return Reply.whole(go_json(parts[-1]), BARE_JSON)
