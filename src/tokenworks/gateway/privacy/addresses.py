"""Addresses on networks: e-mail, URLs and what is in them, hosts, IPv6, network cards."""

import re
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Final

from tokenworks.gateway.privacy.entities import Found

LONGEST_LOCAL: Final = 64
LONGEST_DOMAIN: Final = 253
"""Characters of an e-mail address before and after its @ (RFC 5321, section 4.5.3.1)."""

_LOCAL: Final = "A-Za-z0-9.!#$%&'*+/=?^_`{|}~À-ɏ-"
_LOCAL_END: Final = re.compile(f"[{_LOCAL}]")
_LOCAL_LETTERS: Final = "".join(
    chr(code) for code in range(0x250) if _LOCAL_END.match(chr(code)) and chr(code) != "/"
)
_AT: Final = re.compile(f"(?<=[{_LOCAL}])@(?=[A-Za-z0-9À-ɏ])")
_DOMAIN: Final = re.compile(
    r"(?:[A-Za-z0-9À-ɏ](?:[A-Za-z0-9À-ɏ-]{0,61}[A-Za-z0-9À-ɏ])?\.){1,8}(?:[A-Za-z]{2,24}|xn--[a-z0-9-]{2,59})"
    r"(?![A-Za-z0-9])"
)
_URL: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Za-z][A-Za-z0-9+.-]{1,20}://|www\.(?=[A-Za-z0-9]))"
    r"[^\s<>\"'`，。；、！？）】》」』)\]}]{1,2048}"
)
_USER: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#@:]*):([^\s/?#@]+)@")
_BARE: Final = re.compile(
    r"(?<![A-Za-z0-9@._/-])(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}"
    r"(?:com|org|net|edu|gov|io|ai|app|dev|info|biz|cn|de|fr|uk|jp|eu|nl|ch|ru|br|au|ca)"
    r"(?![A-Za-z0-9_(-]|\.[A-Za-z0-9])(?:/[^\s<>\"'，。；、）)\]}]{0,512})?"
)
_DOT: Final = re.compile(r"\.(?<=[A-Za-z0-9].)[a-z]{2}")
_MAC: Final = re.compile(
    r"(?<![0-9A-Za-z:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![0-9A-Za-z:-])"
)
_IPV6: Final = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,41}(?![0-9A-Za-z:])")
_LONG_GROUP: Final = re.compile(r"[0-9A-Fa-f]{3}")
_TRAILING: Final = ".,;:!?*_"


def addresses(text: str) -> Iterator[Found]:
    """All of them. A URL may have others within."""
    if "@" in text:
        yield from _emails(text)
    if "://" in text or "www." in text:
        yield from _urls(text)
    if _DOT.search(text):
        for match in _BARE.finditer(text):
            yield Found("url", match.start(), _trimmed(text, *match.span()), 0.6)
    if text.count(":") > 1 or text.count("-") > 4:
        yield from _hardware(text)
        yield from _ipv6(text)


def _emails(text: str) -> Iterator[Found]:
    for place in _AT.finditer(text):
        at = place.start()
        window = text[max(0, at - LONGEST_LOCAL) : at]
        local = window[len(window.rstrip(_LOCAL_LETTERS)) :].lstrip(".'`=*|{!?&#$%^+-")
        domain = _DOMAIN.match(text, at + 1, at + 1 + LONGEST_DOMAIN)
        if local and domain is not None and not local.endswith("."):
            yield Found("email", at - len(local), domain.end(), 1.0)


def _urls(text: str) -> Iterator[Found]:
    for match in _URL.finditer(text):
        start, end = match.span()
        user = _USER.match(text, start, end)
        if user is not None:
            yield Found("url_credentials", user.start(2), user.end(3), 0.9)
        yield Found("url", start, _trimmed(text, start, end), 0.8)


def _trimmed(text: str, start: int, end: int) -> int:
    """Without the sentence's own punctuation."""
    return start + len(text[start:end].rstrip(_TRAILING))


def _hardware(text: str) -> Iterator[Found]:
    for match in _MAC.finditer(text):
        if len(set(re.sub("[:-]", "", match[0]).lower())) > 1:
            yield Found("mac_address", match.start(), match.end(), 0.9)


def _ipv6(text: str) -> Iterator[Found]:
    for match in _IPV6.finditer(text):
        word = match[0].rstrip(".")
        if (word.count(":") < 7 and "::" not in word) or not _LONG_GROUP.search(word):
            continue  # a time, a ratio or a slice
        try:
            address = IPv6Address(word)
        except ValueError:
            continue
        if not address.is_loopback and not address.is_unspecified:
            yield Found("ip_address", match.start(), match.start() + len(word), 0.9)
