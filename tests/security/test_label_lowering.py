"""A label only ever rises: nothing that a caller writes makes data less secret than it is."""

from collections.abc import Iterator

import pytest

from hostile import EVERY_ROUTE, Attacked, Field, asking, attacked, placed
from upstream_server import UpstreamServer, upstream_server

HEADER = "x-tokenworks-label"
MAIL = "Write to ada.lovelace@example.org for me."


@pytest.fixture(scope="module")
def cloud() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, cloud: UpstreamServer) -> Iterator[Attacked]:
    """Nothing but a cloud that may see what is internal."""
    far = placed(cloud, "far", clearance="internal")
    with attacked(tmp_path_factory.mktemp("labels"), far) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(gateway: Attacked) -> str:
    """One that has no label."""
    return gateway.key()


RAISING = (
    "secret",
    "SECRET",
    "Secret",
    "  secret  ",
    "\tsecret",
    "private",
    "pRiVaTe ",
)
NO_LABELS = (
    "",
    " ",
    "publik",
    "public,secret",
    "secret;public",
    "public secret",
    "0",
    "3",
    "none",
    "s\u00e9cret",
    "secre\u0074\u0301".encode().decode("latin-1"),
    "\uff53\uff45\uff43\uff52\uff45\uff54".encode().decode("latin-1"),
    "p\u00fcblic",
    '"public"',
    "LABEL.PUBLIC",
)


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_a_label_counts_however_it_is_written(
    gateway: Attacked, cloud: UpstreamServer, key: str, route: str
) -> None:
    asked = len(cloud.asked)
    for word in RAISING:
        assert gateway.post(route, asking(route), (HEADER, word), key=key).status == 403, word
    for name in ("X-Tokenworks-Label", "X-TOKENWORKS-LABEL"):
        assert gateway.post(route, asking(route), (name, "secret"), key=key).status == 403
    assert len(cloud.asked) == asked


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_what_is_no_label_is_refused_and_never_left_out(
    gateway: Attacked, cloud: UpstreamServer, key: str, route: str
) -> None:
    asked = len(cloud.asked)
    for word in NO_LABELS:
        refused = gateway.post(route, asking(route), (HEADER, word), key=key)
        assert refused.status == 400, word
    assert len(cloud.asked) == asked


@pytest.mark.parametrize("route", EVERY_ROUTE)
@pytest.mark.parametrize("word", ["public", "PUBLIC", " public "])
def test_a_header_lowers_no_label_that_the_data_has(
    gateway: Attacked, cloud: UpstreamServer, key: str, route: str, word: str
) -> None:
    asked = len(cloud.asked)

    assert gateway.post(route, asking(route, MAIL), (HEADER, word), key=key).status == 403
    assert len(cloud.asked) == asked


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_of_several_label_headers_the_highest_counts(
    gateway: Attacked, cloud: UpstreamServer, key: str, route: str
) -> None:
    """A caller's `public` before the `secret` that a proxy adds."""
    asked = len(cloud.asked)
    fields: list[Field] = [(HEADER, "public"), (HEADER, "secret")]

    assert gateway.post(route, asking(route), *fields, key=key).status in (400, 403)
    assert gateway.post(route, asking(route), *reversed(fields), key=key).status in (400, 403)
    assert len(cloud.asked) == asked


def test_a_key_s_label_is_lowered_by_nothing(gateway: Attacked, cloud: UpstreamServer) -> None:
    key = gateway.key(label="private")
    asked = len(cloud.asked)
    for route in EVERY_ROUTE:
        for fields in ((), ((HEADER, "public"),), ((HEADER, "internal"),)):
            assert gateway.post(route, asking(route), *fields, key=key).status == 403
    assert len(cloud.asked) == asked


HIDDEN = (
    "ada.lovelace\u200b@example.org",
    "ada.lovelace@exam\u00adple.org",
    "\uff41\uff44\uff41@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.org",
    "ADA.LOVELACE@EXAMPLE.ORG",
    "\u202eada.lovelace@example.org",
    "1\u200b3\u200b8\u200b0\u200b0\u200b1\u200b3\u200b8\u200b0\u200b0\u200b0",
    "\uff11\uff13\uff18\uff10\uff10\uff11\uff13\uff18\uff10\uff10\uff10",
    "AKIAIOSFODNN7\u200bEXAMPLE",
)


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_unicode_hides_nothing_from_detectors(
    gateway: Attacked, cloud: UpstreamServer, key: str, route: str
) -> None:
    asked = len(cloud.asked)
    for text in HIDDEN:
        refused = gateway.post(route, asking(route, f"Say {text} again."), key=key)
        assert refused.status == 403, text
    assert len(cloud.asked) == asked
