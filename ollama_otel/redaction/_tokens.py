"""Finds tokens by their shape: those of well-known vendors, and random words with a prefix.

The shapes are facts about the tokens that vendors issue. Sources: their documentation, and the
rules of gitleaks, detect-secrets and secrets-patterns-db, whose regular expressions are for files
in a repository (they need a quotation mark or a line end after the token) and are not copied.
"""

from __future__ import annotations

import re
from itertools import pairwise

from ollama_otel.redaction._engine import Span, matches

__all__ = ["SHORTEST_TOKEN", "find_bearer_tokens", "find_tokens", "is_random"]

SHORTEST_TOKEN = 15
"""Characters of the shortest token that has a shape: `xoxb-` and ten more."""

_W = "[A-Za-z0-9]"
_WD = "[A-Za-z0-9_-]"
_HEX = "[0-9a-f]"

# One row for each form: what it starts with, and what follows. All of one vendor are on one line.
_SHAPES = (
    # Language models, and services around them.
    rf"sk-(?:proj|svcacct|admin|None|ant|or|lf|kimi|cp|ws)-{_WD}{{16,}}",  # OpenAI, Anthropic, ...
    rf"sk-(?:(?=[a-z_-]{{0,64}}+[A-Z0-9]){_WD}{{16,}}|[a-z]{{32,}})",
    rf"{_HEX}{{32}}\.{_WD}{{16,}}",  # Ollama, Z.ai
    rf"(?:sess|pk-lf)-{_WD}{{20,}}",
    rf"(?:hf|api_org)_{_W}{{30,}}",  # Hugging Face
    rf"gsk_{_W}{{30,}}|xai-{_W}{{40,}}|r8_{_W}{{30,}}|nvapi-{_WD}{{40,}}|pplx-{_W}{{30,}}",
    rf"fw_{_W}{{20,}}|tgp_v1_{_WD}{{30,}}|jina_{_WD}{{40,}}|tvly-(?:dev-|prod-)?{_W}{{16,}}",
    rf"lsv2_(?:pt|sk)_{_W}{{20,}}(?:_{_W}{{6,}})?|pcsk_[A-Za-z0-9_]{{30,}}|(?:pa|al)-{_WD}{{40,}}",
    rf"fc-{_HEX}{{32}}|e2b_{_HEX}{{30,}}|apify_api_{_W}{{20,}}|bb_(?:live|test)_{_WD}{{20,}}",
    rf"sk_{_HEX}{{40,}}|a[ks][-_](?=[A-Za-z]{{0,20}}+[0-9]){_W}{{20,}}|tr_(?:dev|stg|prod|preview)_{_W}{{16,}}|wandb_v1_{_WD}{{30,}}|csk-{_W}{{30,}}|dsk-{_W}{{20,}}",
    # Clouds.
    r"(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Za-z0-9])|ABSK[A-Za-z0-9+/]{60,}={0,2}",
    rf"bedrock-api-key-[A-Za-z0-9+/=]{{40,}}|amzn\.mws\.{_HEX}{{8}}-[0-9a-f-]{{27}}",
    rf"AIza{_WD}{{30,}}|ya29\.{_WD}{{20,}}|GOCSPX-{_WD}{{20,}}|AQ\.Ab{_WD}{{30,}}|1//0{_WD}{{30,}}",
    r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}",  # Microsoft Entra
    r"[A-Za-z0-9+/]{28,90}(?:AzFu|AzSe|AIoT|\+ASt|\+ACR|\+AEh|\+ABa|ACDb|AzCa|APIM|JQQJ99)[A-Za-z0-9+/]{5,}={0,2}",
    rf"do[opr]_v1_{_HEX}{{40,}}|LTAI{_W}{{12,}}|AKID{_W}{{32}}|AKLT{_WD}{{30,}}|bce-v3/ALTAK-[A-Za-z0-9/]{{20,}}",
    rf"HRKU-{_WD}{{30,}}|fm[12]_[A-Za-z0-9+/=]{{40,}}|fo1_{_WD}{{30,}}|vc[paikr]_{_W}{{20,}}|nf[pcoub]_{_W}{{30,}}",
    rf"rnd_{_W}{{20,}}|cf(?:ut|at|k|ut2)_{_WD}{{30,}}|v1\.0-{_HEX}{{24}}-{_HEX}{{100,}}|SCW{_W}{{17}}(?!{_W})",
    rf"AQVN{_WD}{{30,}}|t1\.[A-Z0-9a-z_-]+=*\.{_WD}{{80,}}|y[0-3]_{_WD}{{50,}}|tskey-[a-z]{{2,12}}-{_WD}{{16,}}",
    # Code and builds.
    rf"gh[pousr]_{_W}{{20,}}|github_pat_[A-Za-z0-9_]{{20,}}",
    rf"gl(?:pat|dt|ptt|rt|rtr|cbt|imt|ft|ffct|soat|agent|wt)-(?:t[0-9]_)?{_WD}{{16,}}(?:\.[0-9a-z]{{2}}\.[0-9A-Za-z]{{7,9}})?|gloas-{_HEX}{{40,}}|GR1348941{_WD}{{16,}}",
    rf"AT(?:ATT|CTT|BB|STT){_WD}{{20,}}(?:={_HEX}{{8}})?|BBDC-{_W}{{30,}}",
    rf"npm_{_W}{{30,}}|pypi-{_WD}{{50,}}|rubygems_{_HEX}{{40,}}|oy2[a-z0-9]{{40,}}|CLOJARS_[a-z0-9]{{40,}}|cio{_W}{{32}}(?!{_W})",
    rf"dckr_[a-z]{{3}}_{_WD}{{20,}}|AKCp{_W}{{50,}}|cmVmd{_W}{{50,}}|packagist_[a-z]{{3}}_{_HEX}{{40,}}",
    rf"CCIP(?:AT|RJ)_{_WD}{{20,}}|bk[a-z]{{2}}_{_HEX}{{30,}}|pul-{_HEX}{{30,}}|{_W}{{14}}\.atlasv1\.{_WD}{{50,}}",
    rf"hv[sbr]\.{_WD}{{24,}}|[sbr]\.(?=[A-Za-z]{{0,23}}+[0-9]){_W}{{24}}(?!{_W})|dp\.[a-z]{{2,5}}\.(?:[a-z0-9_-]{{1,40}}\.)?{_W}{{30,}}",
    rf"st\.[0-9a-f-]{{8,}}\.{_W}{{20,}}(?:\.{_W}{{20,}})?|ops_eyJ{_WD}{{100,}}|A3-[A-Z0-9]{{6}}-[A-Z0-9-]{{20,}}",
    rf"sq[upa]_{_HEX}{{30,}}|sgp_(?:{_HEX}{{16}}_|local_)?{_HEX}{{30,}}|slk_{_HEX}{{40,}}|snyk_[a-z]{{3}}\.(?:{_HEX}{{8}}\.)?{_WD}{{20,}}",
    rf"sha256~{_WD}{{30,}}|infracost-?{_W}{{30,}}|ico-{_W}{{30,}}|AGE-SECRET-KEY-1[A-Za-z0-9]{{50,}}",
    # Data.
    rf"dapi{_HEX}{{30,}}(?:-[0-9])?|dose{_HEX}{{30,}}|pscale_[a-z]{{2,6}}_{_WD}{{20,}}|napi_{_W}{{30,}}",
    rf"sbp_{_HEX}{{30,}}|sb_secret_{_WD}{{20,}}|mdb_[a-z]{{2}}_[a-z]{{2}}_{_WD}{{20,}}|essu_[A-Za-z0-9+/=]{{20,}}",
    rf"4b1d{_W}{{38}}|(?:pat|key|fld){_W}{{14}}\.{_HEX}{{40,}}|ntn_{_W}{{30,}}|secret_{_W}{{16,}}(?:_{_HEX}{{32}}\.{_W}{{20,}})?|aio_{_W}{{24,}}",
    rf"phc?x?_{_W}{{30,}}|CFPAT-{_WD}{{30,}}|eyJrIjoi{_WD}{{30,}}=*|pnu_{_W}{{30,}}|sk{_W}{{80,}}",
    # What watches.
    rf"glsa_{_W}{{20,}}(?:_{_W}{{6,}})?|glc_{_W}{{20,}}=*|NRA[KL]-{_W}{{20,}}|NRJS-{_W}{{16,}}|NRI[IQ]-{_WD}{{20,}}|{_HEX}{{36}}NRAL",
    rf"sntry[su]_[A-Za-z0-9_=+/-]{{40,}}|dt0[a-z][0-9]{{2}}\.(?:{_W}{{8,30}}\.{_W}{{40,}}|{_W}{{20,}})|hc[a-z](?:ik|mk|lk)_{_W}{{30,}}|cu_{_HEX}{{30,}}",
    # Messages and mail.
    rf"xox[abeoprs](?:\.xox[a-z])?-{_WD}{{10,}}|xapp-[0-9]-{_WD}{{20,}}|xwfp-{_WD}{{20,}}",
    rf"SG\.{_WD}{{16,}}(?:\.{_WD}{{20,}})?|(?:xkeysib|xsmtpsib)-{_HEX}{{40,}}(?:-{_W}{{10,}})?|re_(?=[A-Za-z]{{0,30}}+[0-9]){_W}{{8,}}_?{_W}{{12,}}|mlsn\.{_HEX}{{40,}}",
    rf"(?:pub)?key-{_HEX}{{32}}|{_HEX}{{32}}-us[0-9]{{1,2}}|md-{_WD}{{22}}|SK{_HEX}{{32}}",
    rf"[MNO]{_WD}{{22,27}}\.{_WD}{{6}}\.{_WD}{{27,}}|(?:bot)?[0-9]{{8,10}}:A[A-Za-z0-9]{_WD}{{32,34}}",
    # Money and shops.
    rf"[sr]k_(?:live|test|prod)_{_W}{{10,}}|whsec_[A-Za-z0-9+/=]{{20,}}|rzp_(?:live|test)_{_W}{{10,}}",
    rf"shp[a-z]{{2}}_{_W}{{30,}}|sq0[a-z]{{3}}-{_WD}{{20,}}|EAAA{_WD}{{50,}}|(?:EAA[A-Z]|IG[A-Z]{{2}}){_W}{{60,}}",
    rf"access_token\$[a-z]{{4,12}}\${_W}{{8,32}}\${_HEX}{{30,}}|access-(?:sandbox|production|development)-[0-9a-f-]{{36}}",
    rf"FLW(?:SECK|PUBK)(?:_TEST)?-{_W}{{20,}}(?:-X)?|EZ[AT]K{_W}{{40,}}|shippo_[a-z]{{4}}_{_HEX}{{30,}}|duffel_[a-z]{{4}}_{_WD}{{30,}}",
    # Work.
    rf"lin_(?:api|oauth)_{_W}{{30,}}|pat-[a-z]{{2}}[0-9]-[0-9a-f-]{{36}}|PMA[KT]-{_HEX}{{20,}}(?:-{_HEX}{{20,}})?",
    rf"fig[douh]r?_{_WD}{{30,}}|pk_[0-9]{{5,10}}_[A-Z0-9]{{20,}}|[12]/[0-9]{{10,}}(?:/[0-9]{{10,}})?:{_HEX}{{30,}}|tfp_{_WD}{{30,}}",
    rf"[sp]k\.eyJ{_WD}{{20,}}\.{_WD}{{16,}}|(?:sdk|mob|api)-[0-9a-f]{{8}}-(?:[0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}}|rdme_[a-z0-9]{{50,}}",
    rf"p8e-{_HEX}{{30,}}|API-[A-Z0-9]{{26,}}(?!{_W})|KEY[0-9A-F]{{30,}}_{_W}{{20,}}|tk-us-{_WD}{{40,}}|sm_(?:aat|pat|sat)_{_W}{{14,}}|fio-u-{_WD}{{50,}}|ory_[a-z]{{2,4}}_{_WD}{{30,}}",
    # Prefixes of their kind that are not in this list yet.
    rf"[A-Za-z][A-Za-z0-9]{{1,15}}[_-](?:(?:live|test|prod|dev|api|pat|sk|secret|key|token|admin)[_-]){{1,2}}(?=[A-Za-z_-]{{0,99}}+[0-9]){_W}{{16,}}",
)
_SHAPE = re.compile(rf"(?<![A-Za-z0-9])(?=[A-Za-z0-9_~.])(?:{'|'.join(_SHAPES)})")
# In words with capitals, small letters and digits, the shapes above need not know the prefix.
_RANDOM = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9]{0,15}[_.-](?:[A-Za-z0-9]{1,10}[_-]){0,2}([A-Za-z0-9]{24,})(?![A-Za-z0-9])"
)
_LONG_WORD = re.compile(r"(?<![A-Za-z0-9_./+=~:$-])[A-Za-z0-9_./+=~:$-]{15,}")
# The words after "bearer" in prose have neither digits nor capitals inside.
_LEAST_CHANGES = 0.42
"""Changes between capitals, small letters and digits, of all characters; random words have 0.6."""
_BEARER = re.compile(
    r"""
    \b(?:[Bb]earer|BEARER) [ \t]+ ["'`]?
    (?: (?= [0-9] | [A-Za-z._~+/=-] [a-z._~+/=-]{0,64} [A-Z0-9] ) (?P<mixed>[A-Za-z0-9._~+/=-]{6,})
      | (?P<long>[A-Za-z0-9._~+/=-]{24,})
    )
    """,
    re.VERBOSE,
)
_JWT = re.compile(
    r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){0,3}"
)


def find_tokens(text: str) -> list[Span]:
    """Find tokens of vendors in the long words of a text."""
    words = [found.span() for found in _LONG_WORD.finditer(text)]
    found = [shape for word in words for shape in matches(_SHAPE, text, *word)]
    found += [
        word for span in words for word in matches(_RANDOM, text, *span) if is_random(word[1])
    ]
    return [Span(*each.span(), "api_key") for each in found]


def is_random(word: str) -> bool:
    """Whether a word has capitals, small letters and digits, in no order that people write."""
    kinds = [1 if sign.isdigit() else 2 if sign.isupper() else 3 for sign in word]
    changes = sum(one != other for one, other in pairwise(kinds))
    return {1, 2, 3} <= set(kinds) and changes >= _LEAST_CHANGES * len(word)


def find_bearer_tokens(text: str) -> list[Span]:
    """Find tokens after the word `Bearer`, and JSON Web Tokens anywhere."""
    spans = []
    if "earer" in text or "BEARER" in text:
        for found in _BEARER.finditer(text):
            group = "mixed" if found["mixed"] else "long"
            spans.append(Span(*found.span(group), "bearer_token"))
    if "eyJ" in text:
        spans += [Span(*found.span(), "bearer_token") for found in _JWT.finditer(text)]
    return spans
