"""A Celery worker whose tasks ask Ollama: set up after the fork, and sent before a process ends.

    pip install ollama_otel celery
    cd examples
    export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318
    celery --app celery_worker worker --concurrency 2

In the same folder, in a second terminal:

    python celery_worker.py 'Why is the sky blue?'

Messages and results are files in the folder `celery-queue`, so that this runs without a broker; a
real app names its own, such as redis://localhost. OLLAMA_MODEL names another model than llama3.2.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from ollama_otel import Client, call_context, configure

# --- the telemetry of a worker ----------------------------------------------------------------


@worker_process_init.connect
def set_up(**_: Any) -> None:
    """Set up OpenTelemetry in each process of the pool, after the fork."""
    telemetry = configure(service_name="celery-worker")
    # Celery ends these processes without the hooks of the interpreter's exit.
    worker_process_shutdown.connect(lambda **_: telemetry.shutdown(), weak=False)


# --- the app ----------------------------------------------------------------------------------

queue = Path("celery-queue").absolute()
queue.mkdir(exist_ok=True)
app = Celery("celery_worker", broker="filesystem://localhost", backend=f"file://{queue}")
app.conf.broker_transport_options = {
    "data_folder_in": str(queue),
    "data_folder_out": str(queue),
    "control_folder": str(queue / "control"),
}

client = Client()
model = os.environ.get("OLLAMA_MODEL", "llama3.2")


@app.task(bind=True)
def answer(self: Any, question: str, user: str) -> str | None:
    """Ask Ollama; the span of the call names the task and its user."""
    with call_context(user_id=user, tags={"task": self.name, "task_id": self.request.id}):
        reply = client.chat(model, messages=[{"role": "user", "content": question}])
    return reply.message.content


if __name__ == "__main__":
    question = " ".join(sys.argv[1:]) or "Why is the sky blue?"
    print(answer.delay(question, user="ada").get(timeout=120))
