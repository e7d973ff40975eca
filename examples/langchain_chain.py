"""A chain of LangChain: the code of the chain stays as it is, and its calls are recorded.

    pip install ollama_otel langchain-ollama
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/langchain_chain.py

`ChatOllama` uses the official client, and `OllamaInstrumentor` records every such client.
Another model than llama3.2 is named as the argument.
"""

from __future__ import annotations

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_ollama import ChatOllama

from ollama_otel import OllamaInstrumentor, call_context, configure

# All that this library needs, once, where the program starts.
configure(service_name="langchain-chain")
OllamaInstrumentor().instrument()

# What the app has had all along.
model = sys.argv[1] if len(sys.argv) > 1 else "llama3.2"
prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")])
chain = prompt | ChatOllama(model=model) | StrOutputParser()

# Optional: who asks, in which conversation. It reaches the threads of `batch`, too.
with call_context(user_id="ada", conversation_id="sky"):
    for text in chain.stream({"question": "Why is the sky blue?"}):
        print(text, end="", flush=True)
    print()
    for answer in chain.batch([{"question": "Why is it dark?"}, {"question": "And in Oslo?"}]):
        print(answer)
