"""Secrets that nothing but their names gives away: `password = hunter2`, `密码是 ...`."""

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Final

from tokenworks.gateway.privacy.entities import Found

_HINTS: Final = ("pass", "pwd", "secret", "token", "key", "auth", "bearer", "basic", "cred")
_CHINESE_HINTS: Final = ("密", "口令", "令牌")
_NAMED: Final = re.compile(
    r"(?=[abcempst密口秘令])(?:"  # how any of them begins: most letters are passed over for this
    r"(?P<password>pass(?:word|wd|phrase|code)|(?<![a-z])(?<![a-z] )pass|pwd|密码|密碼|口令)"
    r"|(?P<key>(?:api|access|account|auth|private|secret|shared|signing|encryption|master|session)"
    r"[_ -]?key|secret|token(?!s)|credential|密钥|秘钥|令牌)"
    r"|(?P<scheme>(?<![a-z])(?:bearer|basic) (?=[a-z0-9+/_.=-]{8})))"
)
"""In small letters, as the text that is searched."""

_ASSIGNED: Final = re.compile(
    r"[\"'`*]{0,3}\s{0,3}(?P<sign>:=|=>|={1,3}|[:：])\s{0,3}(?P<quote>[\"'`]?)"
    r"|s?\s{1,3}(?P<told>is|was)[: ]{1,3}(?P<marked>[\"'`]?)|\s{0,2}(?P<said>是|为)[：: ]{0,2}"
)
_VALUE: Final = re.compile(r"[^\s\"'`<>，。；、（）【】「」]{4,512}")
_QUOTED: Final = {quote: re.compile(rf"[^{quote}\n]{{4,512}}(?={quote})") for quote in "\"'`"}
_SCHEME_VALUE: Final = re.compile(r"[A-Za-z0-9+/_.=~-]{8,4096}")
_NO_VALUE: Final = re.compile(
    r"(?:null|none|nil|true|false|undefined|str(?:ing)?|text|varchar|number|bytes|int|object|any"
    r"|secret(?:str(?:ing)?|bytes)?|required|optional|example|changeme|placeholder|redacted|x+|\*+|\.+"
    r"|(?:your|my)[_-][a-z_-]*|\$\{.*|\$\(.*|(?-i:\$[A-Z_]+)|%(?:s|\w*%)|\{+[\w. ]*\}*|\[.*"
    r"|os\.(?:environ|getenv).*|process\.env.*|env\..*|\(?[a-z_][a-z_.]*(?:\(.*|\[.*))"
    r"[,;)]*",
    re.IGNORECASE,
)
"""What stands where a secret would: its type, a variable, a stand-in."""

_LINE_GOES_ON: Final = re.compile(r"[ \t]+[^\s|#/-]")
_WORD: Final = re.compile(r"[A-Za-z]+")
_LETTER: Final = re.compile(r"[A-Za-z]")
_DIGIT: Final = re.compile(r"[0-9]")


def passwords(text: str) -> Iterator[Found]:
    """The values alone, without the names before them."""
    small = text.lower()
    for hint in _HINTS if text.isascii() else _HINTS + _CHINESE_HINTS:
        if hint in small:
            break
    else:
        return
    done = 0
    for name in _NAMED.finditer(small):
        if name.start() < done:
            continue  # a part of the last value
        if name["scheme"]:
            match = _SCHEME_VALUE.match(text, name.end())
            if match is not None and _is_header(name["scheme"], match[0]):
                yield Found("secret_token", match.start(), match.end(), 0.8)
            continue
        assigned = _ASSIGNED.match(text, name.end())
        if assigned is not None:
            value = _value(text, assigned, is_key=bool(name["key"]))
            if value is not None:
                done = value[1]
                yield Found("secret_token" if name["key"] else "password", *value, 0.7)


def _value(text: str, assigned: re.Match[str], *, is_key: bool) -> tuple[int, int] | None:
    at = assigned.end()
    quote = assigned["quote"] or assigned["marked"] or ""
    match = (_QUOTED[quote] if quote else _VALUE).match(text, at)
    if match is None or _NO_VALUE.fullmatch(match[0]):
        return None
    value = match[0] if quote else match[0].rstrip(".,;:!?)]}")
    if len(value) < 4:
        return None
    # "The password is wrong" and "password: it must be long" tell no secret.
    if not quote and _WORD.fullmatch(value):
        if is_key or not assigned["sign"]:
            return None
        if assigned["sign"] in ":：" and _LINE_GOES_ON.match(text, match.end()):
            return None
    if is_key and not (len(value) >= 8 and _LETTER.search(value) and _DIGIT.search(value)):
        return None
    return at, at + len(value)


def _is_header(scheme: str, value: str) -> bool:
    """Whether it is what an Authorization header holds, and not the next word of a sentence."""
    if scheme[:2].lower() == "be":
        return len(value) >= 16 and bool(_DIGIT.search(value) and _LETTER.search(value))
    try:
        return b":" in b64decode(value, validate=True)
    except ValueError:
        return False
