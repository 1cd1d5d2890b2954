"""Addresses of the Bitcoin and Ethereum chains, by their own checksums."""

import re
from hashlib import sha256
from typing import Final

BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_ENDS: Final = (1, 0x2BC830A3)  # of bech32, and of bech32m
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_MASK: Final = (1 << 64) - 1
_ROUNDS: Final = 24


def is_chain_address(word: str) -> bool:
    if word.startswith("0x"):
        return ethereum(word)
    if word[:3].lower() == "bc1":
        return bech32(word)
    return word[:1] in "13" and 26 <= len(word) <= 35 and base58(word)


def base58(word: str) -> bool:
    """Base58Check: 25 bytes, the last four of which begin the double SHA-256 of the others."""
    value = 0
    for letter in word:
        place = BASE58.find(letter)
        if place < 0:
            return False
        value = value * 58 + place
    if value >= 1 << 200:
        return False
    raw = value.to_bytes(25, "big")
    return raw[:1] in (b"\0", b"\5") and sha256(sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def bech32(word: str) -> bool:
    """BIP 173 and BIP 350."""
    if word not in (word.lower(), word.upper()) or not 14 <= len(word) <= 90:
        return False
    data = [BECH32.find(letter) for letter in word.lower()[3:]]
    check = 1
    for value in (3, 3, 0, 2, 3, *data):  # "bc", spread as the standard says
        if value < 0:
            return False
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_BECH32_GENERATOR):
            check ^= generator if top >> bit & 1 else 0
    return check in _BECH32_ENDS


def ethereum(word: str) -> bool:
    """EIP-55: in mixed case, the case is the checksum; in one case there is none."""
    if not _ADDRESS.fullmatch(word):
        return False
    digits = word[2:]
    if digits in (digits.lower(), digits.upper()):
        return True
    digest = keccak_256(digits.lower().encode()).hex()
    return all(
        letter == (letter.upper() if int(nibble, 16) > 7 else letter.lower())
        for letter, nibble in zip(digits, digest, strict=False)
    )


def keccak_256(message: bytes) -> bytes:
    """Keccak as it was before SHA-3 changed its padding (Ethereum's hash). Up to 135 bytes."""
    block = bytearray(136)
    block[: len(message)] = message
    block[len(message)] ^= 0x01
    block[135] ^= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for index in range(17):
        word = int.from_bytes(block[8 * index : 8 * index + 8], "little")
        lanes[index % 5][index // 5] = word
    register = 1
    for _ in range(_ROUNDS):
        lanes = _mixed(lanes)
        for power in range(7):
            register = (register << 1 ^ (register >> 7) * 0x71) % 256
            if register & 2:
                lanes[0][0] ^= 1 << ((1 << power) - 1)
    return b"".join(lanes[x][0].to_bytes(8, "little") for x in range(4))


def _mixed(lanes: list[list[int]]) -> list[list[int]]:
    """One round of Keccak-f[1600] but for its constant (FIPS 202, section 3.2)."""
    parity = [lane[0] ^ lane[1] ^ lane[2] ^ lane[3] ^ lane[4] for lane in lanes]
    change = [parity[(x + 4) % 5] ^ _turned(parity[(x + 1) % 5], 1) for x in range(5)]
    lanes = [[lane ^ change[x] for lane in lanes[x]] for x in range(5)]
    x, y, current = 1, 0, lanes[1][0]
    for step in range(24):
        x, y = y, (2 * x + 3 * y) % 5
        current, lanes[x][y] = lanes[x][y], _turned(current, (step + 1) * (step + 2) // 2)
    return [
        [lanes[x][y] ^ (~lanes[(x + 1) % 5][y] & lanes[(x + 2) % 5][y]) for y in range(5)]
        for x in range(5)
    ]


def _turned(lane: int, by: int) -> int:
    by %= 64
    return (lane << by | lane >> (64 - by)) & _MASK
