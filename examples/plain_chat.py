"""A streamed chat, recorded.

    pip install ollama_otel
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/plain_chat.py

No collector at hand? OTEL_TRACES_EXPORTER=console OTEL_METRICS_EXPORTER=none prints the span.
Another model than llama3.2 is named as the argument.
"""

import sys

from ollama_otel import Client, configure

configure(service_name="plain-chat")
model = sys.argv[1] if len(sys.argv) > 1 else "llama3.2"
question = {"role": "user", "content": "Why is the sky blue?"}
for part in Client().chat(model, messages=[question], stream=True):
    print(part.message.content, end="", flush=True)
print()
