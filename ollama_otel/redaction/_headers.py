"""Finds credentials in HTTP headers, and passwords and tokens in addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ollama_otel.redaction._engine import Span, matches

__all__ = ["find_authorization", "find_cookies"]

# The name may be quoted, or stand in brackets, in a call or in a list.
_AFTER_NAME = r"""["'`\])*]{0,4} [ \t]{0,8} (?: (?P<colon>:) | => | [=,] ) [ \t]{0,8} [\[(]? [bfru]? ["'`*]{0,3} [ \t]?"""
_AUTHORIZATION = re.compile(
    rf"""
    (?! (?<=\[redacted:[ ]) authorization\] ) authorization {_AFTER_NAME}
    (?!\[redacted)
    (?P<value>
        (?:digest|oauth|hawk|signature|aws4-hmac-sha256) [ \t] [^\r\n]*
      | (?:basic|bearer|negotiate|ntlm|token|api-?key|key|splunk|ssws|dpop|pve\w*|genie\w*|cognito\w*)
        [ \t]+ (?!\[redacted|[%{{$<]) [^\s"'\\`]+ (?: [ \t]*,[ \t]*\w+= [^\s"'\\`]+ )*
      | [A-Za-z][\w-]{{0,30}} [ \t]+ (?= [^\s"'\\`(]{{0,64}}[0-9] ) [^\s"'\\`()]{{8,}}
      | (?= [^\s"'\\`(]{{0,99}}[0-9] ) [^\s"'\\`,;<>{{}}()\[$]{{6,}} (?![(\[])
      | (?(colon) [^\s"'\\`,;<>{{}}()$\[]{{8,}} (?![(\[]) | (?!) )
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_COOKIE = re.compile(
    r"""
    (?! (?<=\[redacted:[ ]) cookie\] ) cookie2? ["'`\])]{0,3} [ \t]{0,8} [:=] [ \t]{0,8} ["'`]?
    (?!\[redacted)
    (?P<value>
      [^\s=;,"'\\:{}()<>]{1,256} (?: ="[^"\r\n]*" | = )
      (?: [^\r\n"'\\=]++ | ="[^"\r\n]*" | = | (?<=[;\s])["'](?=[\w.-]{1,64}=) | (?<==)["'](?=\w)
        | ["'] (?=;[ ]?["']?[\w.-]{1,64}=) )*+
      (?: \r?\n[ \t]+ [\w.-]{1,64}=[^\r\n"']+ )*
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
# A password may contain `@`, which also ends it.
_URL_PASSWORD = re.compile(
    r"://[^\s/:@\[\]\"'<>]{0,128}:(?!\[redacted)(?P<value>[^\s/\"'<>]{1,512})(?=@)"
)
_URL_TOKEN = re.compile(
    r"://(?P<value>(?=[^\s/:@\[\]\"'<>]{0,99}[0-9])[^\s/:@\[\]\"'<>]{16,512})(?=@)"
)
# The path of a webhook is the secret that lets anyone post.
_WEBHOOK = re.compile(
    r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/[0-9]+/"
    r"|\.webhook\.office\.com/webhookb2/|outlook\.office\.com/webhook/|hooks\.zapier\.com/hooks/catch/"
    r"|hook\.[a-z0-9.]{0,16}(?:make|integromat)\.com/|maker\.ifttt\.com/[a-z/_{}-]{0,64}key/"
    r"|api\.telegram\.org/(?:file/)?bot|open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/v2/hook/"
    r"|(?:mm|mattermost)[a-z0-9.-]{0,64}/hooks/)(?P<value>[A-Za-z0-9_@/:%.-]{8,})"
)


def find_authorization(text: str) -> list[Span]:
    """Find the values of `Authorization` headers, and passwords and tokens in addresses."""
    spans = []
    if "://" in text:
        spans += _values(matches(_URL_PASSWORD, text), "password")
        spans += _values(matches(_URL_TOKEN, text), "password")
        spans += _values(matches(_WEBHOOK, text), "webhook")
    if "uthorization" in text or "AUTHORIZATION" in text:
        spans += _values(matches(_AUTHORIZATION, text), "authorization")
    return spans


def find_cookies(text: str) -> list[Span]:
    """Find the values of `Cookie` and `Set-Cookie` headers."""
    if "ookie" not in text and "COOKIE" not in text:
        return []
    return _values(_COOKIE.finditer(text), "cookie")


def _values(found: Iterable[re.Match[str]], kind: str) -> list[Span]:
    return [Span(*each.span("value"), kind) for each in found]
