"""Nobody stalls the gateway by a text on which a pattern takes the square of its length.

`tests/gateway/privacy/test_detectors.py` repeats single pieces; here pieces are mixed at random,
and all else that looks through foreign text is tried too: masks, streams, log lines, errors.
"""

import logging
import random
import time
from collections.abc import Callable

import pytest

from tokenworks.gateway.privacy.detectors import find
from tokenworks.gateway.privacy.masking import MASKED_KINDS, Unmasker, Vault
from tokenworks.gateway.resuming import Continuation
from tokenworks.gateway.upstream.events import EventReader
from tokenworks.gateway.upstream.failures import cleaned
from tokenworks.server.body import deeper_than
from tokenworks.telemetry.log import LineFormatter

PIECES = (
    *("1", "12", "123 456 ", "+", "(", ")", "-", ".", "/", ":", "::", "@", "a", "aB1", "x1y2", "_"),
    *("http://", "www.", ".com", "a.b", "a@b", "ab:cd:", "00:11:22:", "1.2.3.", "GB12", "DE89 "),
    *("password", "token=", "key: ", "is ", '"', "'", "`", "eyJ", "sk-", "ghp_", "AKIA", "Bearer "),
    *(
        "-----BEGIN ",
        "PRIVATE KEY-----",
        "-----END ",
        "身份证",
        "电话",
        "密码是",
        "年",
        "1月",
        "\u200b",
    ),
    *(
        "Jan ",
        "1999-",
        "passport ",
        "card ",
        "ext ",
        "<EMAIL_1>",
        "&lt;",
        "\\u003c",
        "<",
        "é",
        "１",
    ),
    *("A1 ", "QQ 12 34 56 ", "0x", "bc1", "=", "\n", " ", "  ", "{", "[", "\\", "#", "?", "&", "%"),
)
TIMES = 4
WITHIN = 4.0
"""A text four times as long takes four times as long; by a square it would be sixteen."""


def seconds(work: Callable[[str], object], text: str) -> float:
    def once() -> float:
        begun = time.process_time()
        work(text)
        return time.process_time() - begun

    return min(once(), once())


def check_growth(work: Callable[[str], object], unit: str, length: int) -> None:
    short = (unit * (length // len(unit) + 1))[:length]
    long = (unit * (TIMES * length // len(unit) + 1))[: TIMES * length]
    limit = 0.02 + WITHIN * TIMES / 2 * seconds(work, short)
    took = seconds(work, long)
    if took > limit:  # maybe the machine was busy: a square shows again
        limit, took = 0.02 + WITHIN * TIMES / 2 * seconds(work, short), seconds(work, long)
    assert took < limit, (unit, took, limit)


def units(count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    return ["".join(dice.choices(PIECES, k=dice.randint(1, 6))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_no_mixture_takes_detectors_the_square_of_its_length(seed: int) -> None:
    find("+44 20 7946 0958, NHS 943 476 5919")  # the numbering plans are imported first
    for unit in units(25, seed):
        check_growth(find, unit, 15_000)


def test_random_text_of_a_megabyte_is_looked_through_in_seconds() -> None:
    dice = random.Random(6)
    text = "".join(dice.choices(PIECES, k=400_000))[:1_000_000]
    begun = time.process_time()
    find(text)

    assert time.process_time() - begun < 15


def test_no_mixture_takes_masks_the_square_of_its_length() -> None:
    def mask(text: str) -> None:
        vault = Vault(MASKED_KINDS)
        vault.residue(vault.mask(text))

    for unit in units(8, 7):
        check_growth(mask, unit, 8_000)


def unmasked_in_pieces(text: str) -> None:
    vault = Vault(["email"])
    vault.mask("Write to ada@example.org and to bert@example.org.")
    unmasker = Unmasker(vault)
    for letter in text:
        unmasker.feed(letter)
    unmasker.flush()


def continued_in_pieces(text: str) -> None:
    continuation = Continuation("ab" * 2000)
    for start in range(0, len(text), 8):
        continuation.feed(text[start : start + 8])


def logged(text: str) -> None:
    record = logging.LogRecord("tokenworks.x", 20, "", 0, "%s", (text,), None)
    LineFormatter().format(record)


def read_as_events(text: str) -> None:
    reader = EventReader()
    data = text.encode()
    for start in range(0, len(data), 16):
        reader.feed(data[start : start + 16])


OTHERS: dict[str, tuple[Callable[[str], object], tuple[str, ...]]] = {
    "a stream to restore": (
        unmasked_in_pieces,
        ("<", "<EMAIL_1", "<EMAIL_", "&lt;EMAIL_1", "\\u003c"),
    ),
    "a continuation": (continued_in_pieces, ("ab", "a", "b" * 30 + "a")),
    "a log line": (logged, ("a", "bearer ", "api_key=", "http://", "a://b:", "a" * 50 + ":", "\n")),
    "a backend's words": (cleaned, ("\x00", "a", "\u2028", " ")),
    "events": (
        read_as_events,
        ("data: x\n", "data\n", ": x\n", "\r", "\r\n", "event: a\n\n", "\n"),
    ),
    "brackets": (
        lambda text: deeper_than(text.encode(), 32),
        ("[", "]", "[]", '"', '\\"', '["[', "{[", "[" * 40 + "]" * 40),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_that_reads_foreign_text_takes_the_square_of_its_length(name: str) -> None:
    work, hostile = OTHERS[name]
    for unit in hostile:
        check_growth(work, unit, 5_000)
