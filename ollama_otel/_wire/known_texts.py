"""Removes content from error texts: keeps known phrases, numbers, and the requested model.

An error text may quote anything: the model's output, the request, its headers. A phrase that the
server, its engine, Go, httpx, the C library or OpenSSL always writes the same way is not content.
"""

from __future__ import annotations

import errno
import os
import re
from http import HTTPStatus
from typing import Final

from ollama_otel._wire.model_names import full_name, short_name

__all__ = ["known_text"]

_CUT: Final = "[...]"
_LONGEST: Final = 1024
"""Characters of a known text."""

_NUMBER = r"\d{1,15}"
_SIZE = r"\d{1,9}(?:\.\d{1,3})? ?[KMGTP]?i?B"
_DURATION = r"(?:\d{1,9}(?:\.\d{1,9})?(?:ns|us|µs|ms|s|m|h)){1,6}"
_IP = r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]{2,39})"
_JSON_TYPE = r"(?:string|number|object|array|bool)"
_GO_TYPE = (
    r"(?:\[\])*(?:string|bool|u?int(?:32|64)?|float(?:32|64)"
    r"|map\[string\](?:interface \{\}|any|string)"
    r"|api\.(?:Message|ImageData|Tools?|ToolCall|ToolFunction|Duration|ThinkValue))"
)
_GO_FIELD = (
    r"(?:Chat|Generate|Embed|Embedding|Create|Show|Pull|Push|Copy|Delete)Request"
    r"(?:\.(?:model|name|from|source|destination|prompt|suffix|system|template|context|stream|raw"
    r"|format|keep_alive|images|options|think|truncate|shift|messages|tools|input|dimensions"
    r"|logprobs|top_logprobs|role|content|tool_calls|function|arguments|files|adapters|insecure))*"
)
_OPTION = (
    r"(?:temperature|top_[kp]|min_p|typical_p|seed|stop|num_(?:predict|ctx|keep|batch|gpu|thread)"
    r"|main_gpu|use_mmap|repeat_(?:penalty|last_n)|presence_penalty|frequency_penalty"
    r"|draft_num_predict)"
)
_ABILITY = (
    r"(?:audio|chat|completion|embeddings?|generate|image|insert|native|thinking|tools|vision)"
)

# The server: server/routes.go, server/images.go, server/sched.go, llm/llama_server.go,
# x/mlxrunner/client.go of 0.33.0, and what servers before it wrote.
_SERVER = (
    "model(?= ['\"\ue000-\ue00f])",
    r"blob",
    r"not found, try pulling it first",
    r"not found",
    r"model is required",
    r"invalid model name",
    r"use either :local or :cloud, not both",
    r"missing request body",
    r"invalid input type",
    r"raw mode does not support template, system, or context",
    r"top_logprobs must be between 0 and 20",
    rf'option "{_OPTION}" must be of type (?:array|string|boolean|integer|float32|{_GO_TYPE})',
    r"must be of type (?:array|string|boolean|integer|float32)",
    r"invalid (?:think|reasoning) value",
    r"must be .high., .medium., .low., .max., true, or false",
    r"invalid format",
    r'expected "json" or a valid JSON Schema object',
    rf"(?:this model |this server )?does not support {_ABILITY}",
    r"this model only supports one image while more than one image requested",
    r"image generation models are not currently supported",
    r"this server cannot run this remote model",
    r"requires MLX support",
    r"the model you are attempting to pull requires a newer version of Ollama",
    r"The model you are attempting to pull requires a newer version of Ollama",
    r"requires a newer version of Ollama",
    r"no longer compatible with your version of Ollama",
    r"may be incompatible with your version of Ollama",
    r"the prompt is longer than the context length currently available to the model",
    r"shorten the prompt, or use a larger context",
    r"shorten the prompt",
    rf"request \({_NUMBER} tokens\) exceeds the available context size \({_NUMBER} tokens\)",
    r"exceeds the available context size",
    r"exceed_context_size_error",
    r"try increasing it",
    r"the input length exceeds the context length",
    (
        rf"input length \({_NUMBER} tokens\) exceeds the model's maximum context length "
        rf"\({_NUMBER} tokens\)"
    ),
    r"input after truncation exceeds maximum context length",
    r"exceeds (?:the model's )?maximum context length",
    r"unauthorized",
    r"access denied",
    r"you are not currently signed in",
    r"you are not authorized to push to this namespace",
    r"ollama cloud is disabled",
    r"remote model is unavailable",
    r"web (?:search|fetch) is unavailable",
    r"request canceled",
    r"server busy, please try again",
    r"server busy",
    r"maximum pending requests exceeded",
    r"no slots available",
    r"overloaded",
    r"too many concurrent requests",
    r"model runner has unexpectedly stopped",
    r"this may be due to resource limitations or an internal error",
    r"check ollama server logs for details",
    r"an error was encountered while running the model",
    r"error parsing tool call",
    r"llama-server returned invalid tool call arguments",
    r"do embedding request",
    r"failed to process inputs",
    (
        rf"model requires more (?:system|gpu|GPU)? ?memory \({_SIZE}\) than is available "
        rf"\({_SIZE}\)"
    ),
    rf"model requires {_SIZE} but only {_SIZE} (?:are|is) available",
    rf"after {_SIZE} overhead",
    r"unable to load full model on GPU",
    r"(?:llama-server|llama runner|mlx runner) process has terminated",
    (
        rf"timed out waiting for (?:llama-server|llama runner|mlx runner) to start(?: - progress "
        rf"{_NUMBER}\.{_NUMBER})?"
    ),
    r"llama-server (?:startup failed|binary not found)",
    r"(?:llama-server|llama runner) process no longer running(?:: -?\d{1,6})?",
    r"llama-server reported out-of-memory during startup",
    r"error (?:starting|reading|closing) (?:llama-server|mlx runner)(?: chat response)?",
    r"failed to start (?:llama-server|mlx runner)",
    r"mlx runner (?:failed|exited)",
    r"(?:error|failed|unable|failure) (?:in |to )?load(?:ing)? (?:the )?model",
    r"unsupported model format",
    r"unknown model architecture",
    rf"exit status (?:0x[0-9a-f]{{1,8}}|{_NUMBER})",
    r"signal: (?:killed|aborted|segmentation fault|bus error|terminated|interrupt)",
    r"core dumped",
    r"pull model manifest(?:: \d{3})?",
    r"push model manifest",
    r"file does not exist",
    r"digest mismatch, file must be downloaded again",
    r"max retries exceeded",
    r"404 page not found",
    r"405 method not allowed",
    r"template(?:: :\d{1,6}(?::\d{1,6})?)?",
    r"(?:function|variable)(?= \")",
    r"not defined",
    r"nil pointer evaluating",
    r"neither 'from' or 'files' was specified",
    r"unknown type",
    r"invalid (?:digest format|file magic|tag name)",
    r"digest mismatch",
    r"unsupported (?:content type|file type|architecture|image format)",
    rf"wrong number of tensors; expected {_NUMBER}, got {_NUMBER}",
    r"missing tensor",
    r"error loading model (?:architecture|hyperparameters|vocabulary)",
    r"done_getting_tensors",
    r"failed to (?:decode batch|load model|process image|initialize sampler)",
    r"this model is missing data required for image input",
    r"This server does not support embeddings\. Start it with `--embeddings`",
    r"this model requires a subscription",
    r"you(?:'ve| have) reached your (?:hourly|daily|weekly|session) usage limit",
    r"upgrade for (?:access|higher limits)",
    r"https://ollama\.com/(?:upgrade|download)",
    r"internal server error",
    r"bad request",
)

# The engine and the drivers below it.
_ENGINE = (
    r"(?:CUDA|ROCm|HIP|Vulkan|Metal) error",
    r"(?:[Oo]ut[ _-]?of[ _-]?(?:device|host)?[ _-]?memory|ErrorOutOf(?:Device|Host)Memory)",
    r"kIOGPUCommandBufferCallbackErrorOutOfMemory",
    r"(?:cuda|hip)Malloc failed",
    r"ggml_backend_cuda_buffer_type_alloc_buffer",
    rf"allocating {_NUMBER}(?:\.{_NUMBER})? MiB on device {_NUMBER}",
    r"(?:failed|unable) to allocate(?: [A-Za-z]{1,8} buffer)?",
    r"allocation failed",
    r"(?:[Nn]ot enough|[Ii]nsufficient) [Mm]emory",
)

# Go's standard library.
_GO = (
    r"(?:unexpected )?EOF",
    r"unexpected end of JSON input",
    r"invalid character",
    r"looking for (?:the )?beginning of (?:value|object key string)",
    r"after (?:top-level value|array element|object key(?::value pair)?)",
    r"in (?:string literal|string escape code|numeric literal|literal (?:true|false|null))",
    (
        rf"json: cannot unmarshal {_JSON_TYPE} into Go (?:struct field {_GO_FIELD}|value) of type "
        rf"{_GO_TYPE}"
    ),
    r"json: cannot unmarshal",
    rf"cannot unmarshal {_JSON_TYPE} into Go struct field",
    r"into Go (?:struct field|value)",
    rf"time: (?:missing unit in|invalid|unknown unit in) duration(?: \"{_NUMBER}\")?",
    r"context (?:canceled|deadline exceeded)",
    r"dial tcp",
    r"lookup (?:registry\.ollama\.ai|ollama\.com)",
    r"(?:Get|Head|Post|Put|Patch) \"https://(?:registry\.ollama\.ai|ollama\.com)",
    rf"illegal base64 data at input byte {_NUMBER}",
    r"no such host",
    r"(?:i/o|TLS handshake) timeout",
    r"(?:connect: )?connection (?:refused|reset by peer)",
    r"broken pipe",
    r"no such file or directory",
    r"permission denied",
    r"no space left on device",
    r"x509: certificate (?:signed by unknown authority|has expired or is not yet valid)",
)

# httpx, httpcore, h11, anyio, OpenSSL, and the official client.
_CLIENT = (
    r"All connection attempts failed",
    r"(?:[Cc]onnection|[Rr]ead|[Ww]rite) timed out",
    r"[Tt]imed out",
    r"[Tt]he handshake operation timed out",
    rf"Connect call failed \('{_IP}', \d{{1,5}}(?:, \d{{1,10}}, \d{{1,10}})?\)",
    r"Multiple exceptions",
    r"(?:Server|Remote end) (?:disconnected|closed connection) without (?:sending a )?response",
    r"peer closed connection without sending complete message body",
    r"incomplete chunked read",
    rf"received {_NUMBER} bytes, expected {_NUMBER}",
    r"Too little data for declared Content-Length",
    r"Too much data for declared Content-Length",
    r"Illegal header (?:name|value)",
    r"illegal (?:status line|header line|request line|chunk header)",
    r"Exceeded maximum allowed redirects",
    r"Request URL is missing an 'http://' or 'https://' protocol",
    r"Request URL has an unsupported protocol",
    r"Invalid (?:port|IPv[46] address|URL)",
    r"Error -3 while decompressing data: (?:incorrect header check|invalid stored block lengths)",
    rf"Error -{_NUMBER} while decompressing data",
    (
        r"Failed to connect to Ollama\. Please check that Ollama is downloaded, running and "
        r"accessible\. https://ollama\.com/download"
    ),
    r"\[SSL(?:: [A-Z0-9_]{1,64})?\]",
    r"certificate verify failed",
    r"self[- ]signed certificate(?: in certificate chain)?",
    r"unable to get local issuer certificate",
    r"certificate has expired",
    r"certificate is not valid for",
    r"(?:Hostname|IP address) mismatch",
    r"wrong version number",
    r"record layer failure",
    (
        r"(?:tlsv1\d?|sslv3) alert (?:access denied|bad certificate|certificate (?:expired|required"
        r"|revoked|unknown)|decode error|handshake failure|internal error|no certificate"
        r"|protocol version|unknown ca|unrecognized name)"
    ),
    r"Using SOCKS proxy, but the 'socksio' package is not installed",
    r"Unknown scheme for proxy URL",
    r"EOF occurred in violation of protocol",
    r"\(_ssl\.c:\d{1,6}\)",
    r"nodename nor servname provided, or not known",
    r"Name or service not known",
    r"Temporary failure in name resolution",
    r"No address associated with hostname",
    r"getaddrinfo failed",
    r"No connection could be made because the target machine actively refused it",
    r"An existing connection was forcibly closed by the remote host",
)

_OF_SYSTEM = {re.escape(os.strerror(number)) for number in errno.errorcode}
_REASONS = {
    rf"(?:{status.value} )?{re.escape(status.phrase)}"
    for status in HTTPStatus
    if status >= 400  # noqa: PLR2004
} | {r"504 Gateway Time-out"}
_ERROR_NUMBER = r"\[(?:Errno|WinError) -?\d{1,6}\]"

# Longer ones first: an alternative that begins another one would hide it.
_PHRASES: Final = re.compile(
    r"(?<!\w)(?:"
    + "|".join(
        (
            "[\ue000-\ue00f]",
            _ERROR_NUMBER,
            *sorted({*_SERVER, *_ENGINE, *_GO, *_CLIENT, *_OF_SYSTEM, *_REASONS}, key=len)[::-1],
        )
    )
    + r")(?!\w)"
)
_FIRST_MARK: Final = 0xE000
_MARKS: Final = re.compile("[\ue000-\ue00f]")
_ONLY_SEPARATORS: Final = re.compile(r"[\s:;,.()'\"-]{0,4}")
_FIRST_SEPARATORS: Final = re.compile(r"[\s:;,.-]{0,3}")
_LAST_SEPARATORS: Final = re.compile(r"[\s(]{0,2}\Z")


def known_text(text: str, model: str | None = None) -> str | None:
    """Return the known parts of an error text, with `[...]` in place of everything else.

    Known are phrases of a closed list, the numbers in them, and the name of the requested `model`.
    None if no phrase is known. At most 1024 characters.
    """
    names = _spellings(model)
    text = _MARKS.sub("", text)
    for index, name in enumerate(names):
        text = text.replace(name, chr(_FIRST_MARK + index))
    parts: list[str] = []
    end = 0
    has_phrase = False
    for found in _PHRASES.finditer(text):
        parts += (_gap(text[end : found.start()], is_first=end == 0), found[0])
        end = found.end()
        has_phrase = has_phrase or not _MARKS.match(found[0])
    if not has_phrase:
        return None
    parts.append(_gap(text[end:], is_first=False))
    known = _MARKS.sub(lambda mark: names[ord(mark[0]) - _FIRST_MARK], "".join(parts))
    return known.strip()[:_LONGEST]


def _spellings(model: str | None) -> tuple[str, ...]:
    """Return the ways in which the server quotes the name of a model."""
    if not model:
        return ()
    full, spellings = full_name(model), dict.fromkeys((model, full_name(model), short_name(model)))
    quoted = (f"{quote}{name}{quote}" for name in spellings for quote in "'\"")
    bare = full if "/" in full else f"library/{full}"
    return (*quoted, f"registry.ollama.ai/{bare}")


def _gap(text: str, *, is_first: bool) -> str:
    """Return the text between two phrases: its separators, and a mark for the rest."""
    if _ONLY_SEPARATORS.fullmatch(text):
        return text
    before = "" if is_first else _matched(_FIRST_SEPARATORS.match(text))
    after = _matched(_LAST_SEPARATORS.search(text))
    return f"{before or ('' if is_first else ' ')}{_CUT}{after or ' '}"


def _matched(found: re.Match[str] | None) -> str:
    return "" if found is None else found[0]
