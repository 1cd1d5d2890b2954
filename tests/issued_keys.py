"""What tests of keys share."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from tokenworks.accounts.key_store import KeyStore
from tokenworks.accounts.keys import IssuedKey, NewKey
from tokenworks.errors import UnknownCaller

SECRET = b"s" * 32
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def create(store: KeyStore, **fields: Any) -> IssuedKey:
    return run(store.create(NewKey(**{"tenant": "acme", **fields}), actor="test"))


def refused(store: KeyStore, text: str) -> str:
    with pytest.raises(UnknownCaller) as refusal:
        store.find(text)
    return refusal.value.message
