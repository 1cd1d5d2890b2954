"""Keys, tokens and passwords: by the form that their issuers give them, by what a text calls them,
and by how random they look.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tokenworks.gateway.privacy.context import subjects
from tokenworks.gateway.privacy.entities import Found

SHORTEST_TOKEN: Final = 16
LONGEST_TOKEN: Final = 512
"""What is longer is data, not a key."""

LONGEST_NAME: Final = 12
"""Characters of a part of a token from which it is no longer a word of an identifier."""

BITS_WHEN_NAMED: Final = 3.0
BITS_ALONE: Final = 4.2
"""Entropy of a token's letters, bits each, from which it passes for random."""

_LONG: Final = re.compile(rf"(?<![A-Za-z0-9_])[A-Za-z0-9][A-Za-z0-9_-]{{{SHORTEST_TOKEN - 1},}}+")
_WITH_DOTS: Final = re.compile(r"[A-Za-z0-9_-]+(?:[.:][A-Za-z0-9_-]{1,2048}){1,2}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,512}={0,2}")
_ISSUED: Final = re.compile(
    r"(?:A(?:KIA|SIA|ROA|IDA)[A-Z0-9]{16}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_\w{36,244}|gl(?:pat|ptt|rt|dt|cbt|ft|soat)-[\w-]{16,}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{16,}"  # Slack
    r"|sk-ant-[\w-]{16,}|sk-(?:proj-|svcacct-|admin-)?[\w-]{20,}|gsk_\w{20,}|xai-\w{20,}|pplx-\w{20,}"
    r"|AIza[\w-]{35}|GOCSPX-[\w-]{20,}|ya29\w[\w-]{20,}"  # Google
    r"|(?:sk|rk|pk|whsec)_(?:live|test|prod)_\w{16,}|whsec_\w{16,}|sq0[a-z]{3}-[\w-]{22,}"
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{16,}|hf_[A-Za-z0-9]{30,}|r8_\w{30,}|dapi[0-9a-f]{32}"
    r"|do[opr]_v1_[0-9a-f]{64}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|(?:AC|SK)[0-9a-f]{32}"
    r"|lin_api_\w{32,}|(?:ntn|secret)_[A-Za-z0-9]{40,}|glsa_\w{32,}|hv[sb]-?\w{24,}|key-[0-9a-f]{32}"
    r"|LTAI[A-Za-z0-9]{12,26}|AKID[A-Za-z0-9]{32}|AKLT[\w-]{20,}"  # Alibaba, Tencent, Volcengine
    r"|AGE-SECRET-KEY-1[A-Z0-9]{58}|PMAK-[\w-]{50,}|EAA[A-Za-z0-9]{60,})(?![A-Za-z0-9_])"
)
_DOTTED: Final = re.compile(
    r"SG\.[\w-]{16,}\.[\w-]{16,}|(?:hvs|hvb|dp\.(?:pt|st|ct))\.[\w-]{24,}|\d{8,10}:AA[\w-]{32,}"
    r"|ya29\.[\w-]{20,}"
)
_JWT: Final = re.compile(r"(?<![A-Za-z0-9_-])eyJ[\w-]{8,4096}\.eyJ[\w-]{4,8192}\.[\w-]{4,2048}")
_PEM: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_PARTS: Final = re.compile(r"[-_/+=.]+")
_SMALL: Final = re.compile(r"[a-z]")
_CAPITAL: Final = re.compile(r"[A-Z]")
_ALONE: Final = re.compile(r"[A-Za-z0-9_-]{32,}={0,2}")
_NO_DIGITS: Final = str.maketrans("", "", "0123456789")
_HEX: Final = re.compile(r"(?:0x)?[0-9a-fA-F]+")


def credentials(text: str) -> Iterator[Found]:
    """Those that show in themselves; `passwords` has those that only their names give away."""
    if "-----BEGIN" in text:
        yield from pem_blocks(text)
    if "SG." in text or "hv" in text or "dp." in text or ":AA" in text or "ya29." in text:
        for match in _DOTTED.finditer(text):
            yield Found("api_key", match.start(), match.end(), 0.9)
    if "eyJ" in text:
        for match in _JWT.finditer(text):
            yield Found("jwt", match.start(), match.end(), 1.0)
    if max(map(len, text.split()), default=0) < SHORTEST_TOKEN:
        return
    for match in _LONG.finditer(text):
        found = _long_word(text, match.start(), match.end())
        if found is not None:
            yield found


def _long_word(text: str, start: int, end: int) -> Found | None:
    issued = _ISSUED.match(text, start)
    if issued is not None:
        return Found("api_key", start, issued.end(), 0.95)
    whole = _BASE64.match(text, start)
    end = max(end, whole.end()) if whole else end
    word = text[start:end]
    if len(word) > LONGEST_TOKEN or not _has_random_part(word):
        return None
    if "secret" in subjects(text, start, end) and looks_random(word, BITS_WHEN_NAMED):
        return Found("secret_token", start, end, 0.7)
    if start and text[start - 1] in "/+":
        return None  # a part of a path, or of data
    if not _ALONE.fullmatch(word) or not looks_random(word, BITS_ALONE):
        return None
    has_all = all(letters.search(word) for letters in (_SMALL, _CAPITAL))
    return Found("secret_token", start, end, 0.5) if has_all else None


def _has_random_part(word: str) -> bool:
    """Names of things have short parts, few digits in them, or letters that all are the same."""
    if _UUID.fullmatch(word):
        return False
    longest = max(_PARTS.split(word), key=len)
    if len(longest) < LONGEST_NAME:
        return False
    digits = len(longest) - len(longest.translate(_NO_DIGITS))
    return 2 <= digits < len(longest)


def pem_blocks(text: str) -> Iterator[Found]:
    """From a key's first line to its last; to the end of the text if that was cut off."""
    at = 0
    while (begun := _PEM.search(text, at)) is not None:
        ended = text.find("-----END ", begun.end())
        line = text.find("-----", ended + 9) if ended >= 0 else -1
        at = line + 5 if line >= 0 else len(text)
        yield Found("private_key", begun.start(), at, 1.0)


def looks_random(word: str, bits: float) -> bool:
    """Whether its letters are as mixed as chance mixes them, as far as so short a word can show."""
    if "/" in word and max(map(len, word.split("/"))) < SHORTEST_TOKEN:
        return False  # a path
    if _HEX.fullmatch(word):
        bits = min(bits, 3.0)
    return entropy(word) >= min(bits, math.log2(len(word)) - 0.6)


def entropy(word: str) -> float:
    """Shannon's, in bits a character."""
    total = len(word)
    return -sum(n / total * math.log2(n / total) for n in Counter(word).values())
