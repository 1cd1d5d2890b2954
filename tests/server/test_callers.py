import pytest

from tokenworks.accounts.keys import Key, alias_of
from tokenworks.errors import UnknownCaller
from tokenworks.server.callers import Callers, KeyRing


class Ring:
    def __init__(self, *texts: str) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def find(self, text: str) -> Key:
        if text not in self._texts:
            raise UnknownCaller("This key is not known here")
        return Key(id=text, tenant="acme")

    def alias(self, text: str) -> str:
        return alias_of(text, b"the installation's own secret")


def test_where_no_key_is_asked_for_everybody_may_ask_and_nobody_administer() -> None:
    for ring in (None, Ring()):
        callers = Callers(None, ring)
        one, other = callers.identify("one"), callers.identify("other")

        assert not callers.asks_for_key
        assert callers.identify("").scopes == one.scopes == {"infer"}
        assert len({callers.identify("").tenant, one.tenant, other.tenant}) == 3
        assert "one" not in one.tenant


@pytest.mark.parametrize("ring", [None, Ring("tw_a_b")])
def test_the_file_s_key_is_the_owner_s(ring: KeyRing | None) -> None:
    callers = Callers("the owner's own key", ring)
    owner = callers.identify("the owner's own key")

    assert owner.scopes == {"infer", "usage", "admin"}
    assert owner.tenant == callers.identify("the owner's own key").tenant != ""
    for wrong in ("", "the owner's own keY", "the owner's own key2", "\udc80"):
        with pytest.raises(UnknownCaller):
            callers.identify(wrong)


def test_nobody_who_reads_the_books_can_try_out_what_key_a_name_stands_for() -> None:
    """Of a known text, the name cannot be computed without the installation's secret."""
    known = [Callers(None, None).identify("sk-guess").tenant for _ in range(2)]
    here = Callers(None, Ring()).identify("sk-guess").tenant

    assert len({*known, here}) == 3
    assert here == Callers(None, Ring()).identify("sk-guess").tenant != alias_of("sk-guess", b"x")
    assert Callers("the owner's own key").identify("the owner's own key").tenant == "owner"
    assert Callers("another key").identify("another key").tenant == "owner"


def test_a_key_that_was_made_here_is_known() -> None:
    callers = Callers(None, Ring("tw_a_b"))

    assert callers.asks_for_key
    assert callers.identify("tw_a_b").tenant == "acme"
    for wrong in ("", "tw_a_c"):
        with pytest.raises(UnknownCaller):
            callers.identify(wrong)
