"""A chat of LlamaIndex: its code stays as it is, and its calls are recorded.

    pip install ollama_otel llama-index-llms-ollama
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/llama_index_chat.py

LlamaIndex uses the official client, and `OllamaInstrumentor` records every such client. There is a
call `show_model` too: LlamaIndex asks how long the context of the model is.
Another model than llama3.2 is named as the argument.
"""

from __future__ import annotations

import os
import sys

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.llms.ollama import Ollama

from ollama_otel import OllamaInstrumentor, call_context, configure

# All that this library needs, once, where the program starts.
configure(service_name="llama-index-chat")
OllamaInstrumentor().instrument()

# What the app has had all along. LlamaIndex ignores OLLAMA_HOST.
model = sys.argv[1] if len(sys.argv) > 1 else "llama3.2"
host = os.environ.get("OLLAMA_HOST", "http://127.0.0.1:11434")
engine = SimpleChatEngine.from_defaults(llm=Ollama(model=model, base_url=host))

# Optional: who asks, in which conversation.
with call_context(user_id="ada", conversation_id="sky"):
    print(engine.chat("Why is the sky blue?"))
    for text in engine.stream_chat("And at night?").response_gen:
        print(text, end="", flush=True)
    print()
