"""A long text is looked through a window at a time, and nothing of it is lost or found twice."""

import random

import pytest

from tokenworks.gateway.privacy.detectors import AFTER, WINDOW, _find, find
from tokenworks.gateway.privacy.masking import Vault

PIECES = [
    *("anna@example.com", "(602) 272-9781", "13800138000", "4111 1111 1111 1111", "1990-03-05"),
    *(
        "GB82WEST12345698765432",
        "203.0.113.77",
        "password: hunter2x",
        "密码：abc12345，",
        "May 2020",
    ),
    *(
        "https://u:pw12@example.com/",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "11010519491231002X",
        "<EMAIL_1>",
    ),
    *(" ", "\n", ", ", "。", "a", "1", '"', "call ", "key ", "\u200b"),
]
KEY = f"-----BEGIN PRIVATE KEY-----\n{'A1b2' * 16_000}\n-----END PRIVATE KEY-----"


def long_text(seed: int, size: int) -> str:
    draw = random.Random(seed)
    pieces: list[str] = []
    while size > 0:
        pieces.append(draw.choice(PIECES))
        size -= len(pieces[-1])
    return "".join(pieces)


@pytest.mark.parametrize("seed", range(4))
def test_windows_find_what_the_whole_text_has(seed: int) -> None:
    text = long_text(seed, 3 * WINDOW)

    assert find(text) == _find(text)


@pytest.mark.parametrize("before", [WINDOW - 30, WINDOW - 1, WINDOW, WINDOW + 1])
@pytest.mark.parametrize("one", ["anna@example.com", "4111 1111 1111 1111", "my phone: 6022729781"])
def test_what_lies_across_two_windows_is_found_once(before: int, one: str) -> None:
    text = f"{'x ' * (before // 2)}{one} {'y ' * AFTER * 2}"

    assert [found.start // 100 for found in find(text)] == [(text.index(one) + 10) // 100]


def test_a_private_key_longer_than_a_window_is_found_whole() -> None:
    text = f"{'x ' * 1000}{KEY} and anna@example.com"
    start = text.index("-----BEGIN")

    assert [(one.kind, one.start, one.end) for one in find(text)] == [
        ("private_key", start, start + len(KEY)),
        ("email", len(text) - 16, len(text)),
    ]
    masked = Vault().mask(text)
    assert masked.endswith("<PRIVATE_KEY_1> and <EMAIL_1>")
