"""Finds passwords in commands and statements, where no name stands before them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollama_otel.redaction._engine import Span, matches
from ollama_otel.redaction._names import secrecy

__all__ = ["find_in_commands"]

_Q = r"[\"'`]?"
_V = r"(?P<value>[^\s\"'`|;&<>]{3,})"
_OTHERS = r"[^\r\n|;]{0,200}?[ \t]"

# A word that the text must have, and the pattern.
_COMMANDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (word, re.compile(regex))
    for word, regex in (
        # curl, wget, HTTPie: a user with a password. Numbers are ids of a user and a group.
        (
            "-",
            rf"(?<![\w-])(?:-u|-U|-a|--user|--proxy-user|--auth)(?:[ =]|(?=[\"'])){_Q}"
            r"[\w.@%+\\-]{0,64}:(?=[^\s\"'`]{0,64}[A-Za-z])(?P<value>[^\s\"'`]{3,})",
        ),
        ("curl", rf"\bcurl{_OTHERS}-u[\w.@%+-]{{1,64}}:{_V}"),
        # A user with a password before a host, without a scheme.
        (
            "@",
            r"(?<![\w/:.-])(?!mailto:)[\w.-]{1,32}:(?=[^\s@]{0,64}[0-9])(?=[^\s@]{0,64}[A-Za-z])(?P<value>[^\s/@\"'`<>:,;]{6,64})(?=@(?!sha[0-9])[\w.-]+)",
        ),
        ("vault", rf"\bvault[ \t]+login[ \t]+(?:-\S+[ \t]+)*(?=\S*[0-9]){_V}"),
        ("gh secret", rf"\bgh[ ]secret[ ]set{_OTHERS}(?:-b|--body)[ =]?{_Q}{_V}"),
        (
            "send",
            rf"(?i:pass(?:word|phrase)|pin)[^\r\n]{{0,24}}\s{{1,8}}send(?:line)?[ \t]+(?:--[ ])?{_Q}(?P<value>[^\s\"'`\\]{{3,}})",
        ),
        ("WIFI:", r"\bWIFI:(?:[^;\r\n]{0,99};){0,4}?P:(?P<value>[^;\r\n]{3,})"),
        *(
            (name, rf"\b{name}\b{_OTHERS}{option}[ \t=]?{_Q}{_V}")
            for name, option in (
                ("sshpass", "-p"),
                ("docker", "(?<=login )(?:[^\r\n|;]{0,99}[ \t])?(?:-p|--password)"),
                ("podman", "(?<=login )(?:[^\r\n|;]{0,99}[ \t])?(?:-p|--password)"),
                ("helm", "(?<=login )(?:[^\r\n|;]{0,99}[ \t])?(?:-p|--password)"),
                ("az", "(?<=login )(?:[^\r\n|;]{0,99}[ \t])?(?:-p|--password)"),
                ("oc", "(?<=login )(?:[^\r\n|;]{0,99}[ \t])?(?:-p|--password)"),
                ("redis-cli", "-a"),
                ("sqlcmd", "-P"),
                ("bcp", "-P"),
                ("ldapsearch", "-w"),
                ("ldapadd", "-w"),
                ("ldapmodify", "-w"),
                ("plink", "-pw"),
                ("pscp", "-pw"),
                ("unzip", "-P"),
                ("zip", "-P"),
                ("mosquitto_pub", "-P"),
                ("mosquitto_sub", "-P"),
                ("smbclient", r"-U[ \t]?[\w\\.-]{1,64}%"),
                ("ipmitool", "-P"),
                ("influx", "-password"),
                ("cqlsh", "-p"),
                ("mongo", "-p"),
                ("mongosh", "-p"),
                ("mongodump", "-p"),
                ("mongorestore", "-p"),
                ("mongoexport", "-p"),
                ("mongoimport", "-p"),
            )
        ),
        # MySQL takes no gap between the option and the password; `-p db` asks for it.
        ("mysql", rf"\bmysql\w*{_OTHERS}-p{_Q}(?=[^\s]){_V}"),
        ("mariadb", rf"\bmariadb\w*{_OTHERS}-p{_Q}(?=[^\s]){_V}"),
        ("htpasswd", rf"\bhtpasswd[ \t]+-\w*b\w*[ \t]+\S{{1,200}}[ \t]+\S{{1,64}}[ \t]+{_Q}{_V}"),
        (
            "rabbitmqctl",
            rf"\brabbitmqctl[ \t]+(?:add_user|change_password)[ \t]+\S{{1,64}}[ \t]+{_Q}{_V}",
        ),
        ("net ", rf"\bnet[ \t]+user?[ \t]+\S{{1,64}}[ \t]+(?!/){_Q}{_V}"),
        ("pass:", rf"(?<=pass:){_V}"),
        (
            "chpasswd",
            rf"\becho[ \t]+(?:-\w+[ \t]+)?{_Q}[\w.-]{{1,64}}:{_V}[^|\r\n]{{0,9}}\|[^|\r\n]{{0,99}}chpasswd",
        ),
        (
            "echo",
            rf"\becho[ \t]+(?:-\w+[ \t]+)?{_Q}{_V}{_Q}[ \t]*\|[^|\r\n]{{0,99}}(?:--?password-stdin|sudo[ \t]+-\w*S|passwd[ \t]+--stdin|--with-token)",
        ),
        ("with-token", rf"--with-token[ \t]+(?!<){_Q}{_V}"),
        ("openssl", rf"\bopenssl{_OTHERS}-[kK][ \t]+{_Q}{_V}"),
        ("SecureString", rf"ConvertTo-SecureString[ \t]+(?:-String[ \t]+)?{_Q}(?![$(]){_V}"),
        # Windows, Oracle, routers
        ("/user:", rf"/user:\S{{1,64}}[ \t]+(?!/){_Q}{_V}"),
        ("jdbc:oracle", r"jdbc:oracle:\w{1,8}:[\w.-]{1,64}/(?P<value>[^\s@\"']{3,64})(?=@)"),
        ("sqlplus", r"\bsqlplus[ \t]+(?:-\w+[ \t]+)?[\w.-]{1,64}/(?P<value>[^\s@\"']{3,64})"),
        ("community", r"\bsnmp-server[ ]community[ ](?P<value>\S{3,64})"),
        (
            "enable",
            r"(?m:^)[ \t]*enable[ ](?:secret|password)[ ](?:[0-9][ ])?(?P<value>\S{3,128})[ \t]*(?m:$)",
        ),
        (
            "username",
            r"(?m:^)[ \t]*username[ ]\S{1,64}[ ][^\r\n]{0,40}?(?:secret|password)[ ](?:[0-9][ ])?(?P<value>\S{3,128})[ \t]*(?m:$)",
        ),
        # SQL
        (
            "DENTIFIED",
            r"(?i:identified[ \t]+(?:with[ \t]+\S{1,64}[ \t]+)?(?:by|as)[ \t]+(?:password[ \t]+)?)[\"'](?P<value>[^\"'\r\n]+)",
        ),
        (
            "dentified",
            r"(?i:identified[ \t]+(?:with[ \t]+\S{1,64}[ \t]+)?(?:by|as)[ \t]+(?:password[ \t]+)?)[\"'](?P<value>[^\"'\r\n]+)",
        ),
        (
            "ASSWORD",
            r"(?i:set[ \t]+password[ \t]+for[ \t]+[^=\r\n]{1,99}=[ \t]*(?:password\()?)[\"'](?P<value>[^\"'\r\n]+)",
        ),
        # Two arguments: a user and a password.
        (
            "uth",
            r"(?i:\b(?:\w*basic_?auth|auth|with_?credentials|networkcredential|passwordauthentication|login)[ \t]{0,4}[=:]?[ \t]{0,4}[(\[])[ \t]{0,4}[bru]?[\"'][^\"'\r\n]{1,64}[\"'],[ \t]*[bru]?[\"'](?P<value>[^\"'\r\n]+)",
        ),
        (
            "redential",
            r"(?i:\b\w*credentials?[ \t]{0,4}[=:]?[ \t]{0,4}[(\[])[ \t]{0,4}[bru]?[\"'][^\"'\r\n]{1,64}[\"'],[ \t]*[bru]?[\"'](?P<value>[^\"'\r\n]+)",
        ),
        (
            "ogin",
            r"(?i:\blogin(?:[ ]is)?:?[ \t]+)[\w.@-]{1,64}[ \t]*[/|:][ \t]*(?=[^\s]{0,64}[0-9])(?P<value>[^\s\"'`]{5,})",
        ),
        (
            "red",
            r"(?i:\b(?:credentials?|creds?):?[ \t]+)[\w.@-]{1,64}[ \t]*[/|:][ \t]*(?=[^\s]{0,64}[0-9])(?P<value>[^\s\"'`]{5,})",
        ),
    )
)


# A text without any option need not be searched for each of these.
_TOOLS = frozenset(
    [
        "-",
        "curl",
        "sshpass",
        "docker",
        "podman",
        "helm",
        "az",
        "oc",
        "redis-cli",
        "sqlcmd",
        "bcp",
        "ldapsearch",
        "ldapadd",
        "ldapmodify",
        "plink",
        "pscp",
        "unzip",
        "zip",
        "mosquitto_pub",
        "mosquitto_sub",
        "smbclient",
        "ipmitool",
        "influx",
        "cqlsh",
        "mongo",
        "mongosh",
        "mongodump",
        "mongorestore",
        "mongoexport",
        "mongoimport",
        "mysql",
        "mariadb",
        "htpasswd",
        "with-token",
    ]
)
_STATEMENTS = tuple(row for row in _COMMANDS if row[0] not in _TOOLS)


_INSERT = re.compile(
    r"\((?P<names>[^()]{1,400})\)\s{1,8}values\s{0,8}\((?P<values>(?:'[^'\r\n]{0,500}+'|[^()']){1,2000}+)\)",
    re.IGNORECASE,
)
_SQL_VALUE = re.compile(r"\s*+(?:'(?P<quoted>[^']*+(?:''[^']*+)*+)'|[^,']++)\s*+(?:,|\Z)")


def find_in_commands(text: str) -> list[Span]:
    """Find passwords in arguments of well-known commands and statements."""
    spans = [
        Span(*found.span("value"), "secret")
        for word, pattern in (_COMMANDS if " -" in text else _STATEMENTS)
        if word in text
        for found in matches(pattern, text)
    ]
    if "alues" in text or "VALUES" in text:
        spans += [span for found in matches(_INSERT, text) for span in _inserted(found)]
    return spans


def _inserted(found: re.Match[str]) -> Iterator[Span]:
    """Yield the values of columns that are named after secrets."""
    names = [name.strip(' \t\r\n`"[]') for name in found["names"].split(",")]
    start = found.start("values")
    for name, value in zip(names, _SQL_VALUE.finditer(found["values"]), strict=False):
        if secrecy(name) == "certain" and value["quoted"]:
            yield Span(start + value.start("quoted"), start + value.end("quoted"), "secret")
