"""A router in one file: a name of the format, a checksum, then its fields. Read strictly."""

import hashlib
import math
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from tokenworks.errors import ModelFileError
from tokenworks.gateway.quality.features import SIZE
from tokenworks.gateway.quality.router import QualityRouter
from tokenworks.store.files import write_atomic

MAGIC: Final = b"TWROUTE1"
LARGEST_FILE: Final = 1 << 22
_HEAD: Final = len(MAGIC) + hashlib.sha256().digest_size


def save(router: QualityRouter, path: Path) -> None:
    """Whole or not at all. Raises ModelFileError where it cannot be written."""
    body = msgspec.msgpack.encode(router)
    try:
        write_atomic(path, MAGIC + hashlib.sha256(body).digest() + body)
    except OSError as error:
        raise ModelFileError(f"The router '{path}' cannot be written: {error.strerror}") from None


def load(path: Path) -> QualityRouter:
    """Raises ModelFileError for a file that is not there, torn, changed, or of another kind."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ModelFileError(f"The router '{path}' cannot be read: {error.strerror}") from None
    if not data.startswith(MAGIC) or len(data) > LARGEST_FILE:
        raise ModelFileError(
            f"'{path}' is no router", hint="make one with: tokenworks route train DATA --out FILE"
        )
    body = data[_HEAD:]
    if hashlib.sha256(body).digest() != data[len(MAGIC) : _HEAD]:
        raise ModelFileError(f"The router '{path}' is damaged", hint="train it again")
    try:
        router = msgspec.msgpack.decode(body, type=QualityRouter)
    except msgspec.MsgspecError as error:
        raise ModelFileError(f"The router '{path}' does not hold: {error}") from None
    if problem := _problem(router):
        raise ModelFileError(f"The router '{path}' does not hold: {problem}", hint="train it again")
    return router


def _problem(router: QualityRouter) -> str:
    """What is wrong with it; empty: nothing."""
    models = (router.weak, router.strong)
    if router.features != SIZE or any(len(one.weights) != 4 * SIZE for one in models):
        return f"it looks at {router.features} features of a prompt, this version at {SIZE}"
    weights = [np.frombuffer(one.weights, "<f4") for one in models]
    numbers = [one.bias for one in models] + [point.share for point in router.curve]
    if not all(np.isfinite(part).all() for part in (*weights, np.array(numbers))):
        return "not all of its numbers are finite"
    qualities = [point.quality for point in router.curve]
    if not qualities or qualities != sorted(set(qualities)) or router.quality not in qualities:
        return "its curve is not one"
    if any(math.isnan(point.threshold) for point in router.curve):
        return "its curve has a threshold that is no number"
    return ""
