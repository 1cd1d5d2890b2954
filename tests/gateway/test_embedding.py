"""Requests for vectors: what is looked through, and that a text's vector is the text's alone."""

from hypothesis import given
from hypothesis import strategies as st

from tokenworks.gateway.embedding import EmbeddingRequest, numbered_apart
from tokenworks.gateway.planning import prompt_bound
from tokenworks.gateway.privacy.masking import Vault
from tokenworks.gateway.request_text import is_readable, texts_of

words = st.sampled_from(
    [
        "hello",
        "ada.lovelace@example.org",
        "grace.hopper@example.org",
        "alan@example.net",
        "<EMAIL_7>",  # a number that no vault gives out here
        "<IBAN_1>",
        "+44 20 7946 0958",
        "&lt;EMAIL_8&gt;",
    ]
)
texts = st.lists(words, min_size=1, max_size=6).map(" and ".join)


def masked(batch: list[str]) -> list[str]:
    vault = Vault()
    return [numbered_apart(text, vault.mask(text)) for text in batch]


@given(texts, st.lists(texts, max_size=3), st.lists(texts, max_size=3))
def test_a_masked_text_is_the_same_whatever_stands_before_it(
    text: str, before: list[str], other: list[str]
) -> None:
    assert masked([*before, text])[-1] == masked([*other, text])[-1]


@given(texts, st.lists(texts, max_size=3))
def test_numbering_apart_shows_nothing_and_merges_nothing(text: str, before: list[str]) -> None:
    vault = Vault()
    for one in before:
        vault.mask(one)
    hidden = vault.mask(text)
    shown = numbered_apart(text, hidden)

    assert not vault.residue(shown)
    assert "@example" not in shown
    # Two placeholders are one and the same after it only if they were before.
    assert len(set(shown.split(" and "))) == len(set(hidden.split(" and ")))


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5))
def test_every_text_is_looked_through(inputs: list[str]) -> None:
    request = EmbeddingRequest.made(inputs, request_id="r", model="m")

    assert request.inputs == inputs
    assert set(inputs) <= set(texts_of(request))
    assert is_readable(request)
    assert prompt_bound(request) >= sum(len(text.encode("utf-8", "replace")) for text in inputs)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=5))
def test_tokens_are_what_nobody_can_look_into(inputs: list[list[int]]) -> None:
    request = EmbeddingRequest.made(inputs, request_id="r", model="m")

    assert request.inputs == inputs
    assert not is_readable(request)
    assert prompt_bound(request) == sum(map(len, inputs))
