"""Several gunicorn workers whose metrics Prometheus scrapes, each on a port of its own.

    pip install 'ollama_otel[prometheus]' gunicorn
    gunicorn --config examples/gunicorn_workers.py --chdir examples gunicorn_workers:app
    curl 'http://localhost:8000/?Why+is+the+sky+blue%3F'
    curl http://localhost:9464/metrics

This file is both the configuration and the app, to be one file; it works with `--preload`, too.
OLLAMA_MODEL names another model than llama3.2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_plus

from ollama_otel import Client, configure

# --- gunicorn's configuration -----------------------------------------------------------------

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = 2
# Twice as many ports as workers: at a reload, new workers start before the old ones end.
ports = range(int(os.environ.get("FIRST_PORT", "9464")), 65_536)[: 2 * workers]


def pre_fork(server: Any, worker: Any) -> None:
    """Choose the port of a new worker, in the parent process, which knows all workers."""
    used = {each.metrics_port for each in server.WORKERS.values()}
    worker.metrics_port = next(port for port in ports if port not in used)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn gives both by position
    """Set up OpenTelemetry in the new worker."""
    configure(service_name="workers", prometheus=f"127.0.0.1:{worker.metrics_port}")


# --- the app ----------------------------------------------------------------------------------

client = Client()
model = os.environ.get("OLLAMA_MODEL", "llama3.2")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    question = unquote_plus(environ["QUERY_STRING"])
    answer = client.chat(model, messages=[{"role": "user", "content": question}])
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [(answer.message.content or "").encode()]
