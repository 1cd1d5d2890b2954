"""Who has no key learns nothing of those that there are: not from replies, not from what is done.

That time tells nothing is held by counting what is done (`tests/accounts/test_key_secrets.py`);
here are the replies, and the key of the key file.
"""

import hmac
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hostile import EVERY_ROUTE, Attacked, asking, attacked, placed
from tokenworks.errors import UnknownCaller
from tokenworks.server import callers
from tokenworks.server.callers import Callers
from upstream_server import upstream_server

NOT_COMPARED = ("x-request-id", "date")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with (
        upstream_server() as upstream,
        attacked(tmp_path_factory.mktemp("enumeration"), placed(upstream)) as gateway,
    ):
        yield gateway


@pytest.fixture(scope="module")
def known(gateway: Attacked) -> dict[str, str]:
    """Keys that are known, some of which hold no longer."""
    texts = {
        "live": gateway.key(),
        "of an administrator": gateway.key(role="admin"),
        "revoked": gateway.key(),
        "expired": gateway.key(expires_at=time.time() + 0.05),
        "rotated": gateway.key(),
    }
    keys = gateway.books.keys
    gateway.wait(keys.revoke(texts["revoked"].split("_")[1], actor="t"))
    gateway.wait(keys.rotate(texts["rotated"].split("_")[1], actor="t", grace_s=0))
    time.sleep(0.1)
    return texts


def told(gateway: Attacked, path: str, key: str) -> tuple[Any, ...]:
    """All that can be told apart in the reply to this key."""
    if path.startswith("/v1/"):
        reply = gateway.post(path, asking(path), key=key)
    else:
        reply = gateway.ask("GET", path, key=key)
    fields = sorted(pair for pair in reply.headers.items() if pair[0] not in NOT_COMPARED)
    return reply.status, reply.text, fields


@pytest.mark.parametrize("path", [*EVERY_ROUTE, "/admin/keys", "/metrics", "/v1/nothing"])
def test_enumeration_of_ids_gets_one_reply_whatever_key_there_is(
    gateway: Attacked, known: dict[str, str], path: str
) -> None:
    guesses = ["nonsense", "tw_" + "a" * 16 + "_" + "b" * 32]
    for text in known.values():
        _, identity, secret = text.split("_")
        guesses += [f"tw_{identity}_{'b' * 32}", f"tw_{identity}_{secret[:-1]}", f"tw_{identity}_"]
        guesses += [f"tw_{'a' * 16}_{secret}", text[3:], f"{text}b"]
    replies = {str(told(gateway, path, guess)) for guess in guesses}

    assert len(replies) == 1
    assert "401" in replies.pop()


@pytest.mark.parametrize("path", [*EVERY_ROUTE, "/admin/keys"])
@pytest.mark.parametrize("kind", ["revoked", "expired", "rotated"])
def test_a_key_that_holds_no_longer_is_refused_as_an_unknown_one_is(
    gateway: Attacked, known: dict[str, str], path: str, kind: str
) -> None:
    """Only its whole text gets other words: those of its owner, who must know what to do."""
    status, body, fields = told(gateway, path, known[kind])
    unknown = told(gateway, path, "nonsense")
    length = {"content-length"}

    assert status == unknown[0] == 401
    assert [x for x in fields if x[0] not in length] == [
        x for x in unknown[2] if x[0] not in length
    ]
    assert known[kind] not in body


def test_timing_of_the_key_file_s_key_tells_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent, two digests of one length are compared, in constant time and once."""
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counted(one: bytes, two: bytes) -> bool:
        compared.append((len(one), len(two)))
        return compare(one, two)

    monkeypatch.setattr(callers.hmac, "compare_digest", counted)
    known = Callers("the-owner-s-key-0123456789")
    for guess in ("", "t", "the-owner-s-key-012345678", "x" * 500, "\udcff", "é" * 20):
        compared.clear()
        with pytest.raises(UnknownCaller, match="asks for its key"):
            known.identify(guess)
        assert compared == [(32, 32)]


def test_the_owner_s_key_cannot_be_tested_against_what_its_requests_leave_behind(
    gateway: Attacked,
) -> None:
    """A plain hash of it in the ledger would let whoever reads that try words at leisure."""
    one, same, other = (
        Callers(text, gateway.books.keys).identify(text).tenant
        for text in ("correct horse battery", "correct horse battery", "another horse battery")
    )

    assert one == same == other
