"""Masking and back: nothing found goes out, everything comes back, however the stream is cut."""

import itertools
import json
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.gateway.privacy.detectors import find
from tokenworks.gateway.privacy.masking import MASKED_KINDS, Unmasker, Vault
from tokenworks.gateway.privacy.placeholders import LONGEST, PLACEHOLDER

ENTITIES = [
    *("anna@example.com", "b.c@d.org", "(602) 272-9781", "+44 20 7946 0958", "13800138000"),
    *("4111 1111 1111 1111", "GB82WEST12345698765432", "536-90-4399", "203.0.113.77"),
    *("11010519491231002X", "１３８００１３８０００", "AKIA" + "IOSFODNN7EXAMPLE", "1990-03-05"),
    *(
        "password: hunter2x",
        "密码：abc12345，",
        "https://u:pw12@example.com/",
        "my card 4111111111111111",
    ),
]
LOOK_ALIKES = [
    *("<EMAIL_1>", "<email_1>", "< PHONE 2 >", "<EMAIL_1", "EMAIL_1>", "&lt;CARD_1&gt;"),
    *(
        "\\u003cEMAIL_2\\u003e",
        "<NATIONAL\\_ID\\_1>",
        "<EMAIL_01>",
        "<EMAIL_123456>",
        "<<EMAIL_2>>",
    ),
    *("<US SSN-1>", "<", ">", "&", "\\", "\\\\u003cEMAIL_1\\u003e", "<PASSWORD_"),
]
PIECES = st.one_of(
    st.sampled_from(ENTITIES),
    st.sampled_from(LOOK_ALIKES),
    st.text(max_size=8),
    st.sampled_from([" ", "\n", ", ", "。", "a", "1", '"', "call ", "身份证", "key "]),
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def streamed(vault: Vault, pieces: list[str], *, as_json: bool = False) -> str:
    unmasker = Unmasker(vault, json=as_json)
    return "".join(unmasker.feed(piece) for piece in pieces) + unmasker.flush()


@given(text=TEXTS, places=st.lists(st.integers(0, 500), max_size=20))
@settings(max_examples=300, deadline=None)
def test_what_was_masked_comes_back_however_the_stream_is_cut(text: str, places: list[int]) -> None:
    vault = Vault()
    masked = vault.mask(text)

    assert vault.unmask(masked) == text
    assert streamed(vault, cut(masked, places)) == text
    assert streamed(vault, list(masked)) == text


@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_nothing_that_was_found_is_left(texts: list[str]) -> None:
    vault = Vault()
    for text in texts:
        found = [one for one in find(text) if one.kind in MASKED_KINDS]
        masked = vault.mask(text)

        assert vault.residue(masked) == ()
        assert vault.mask(masked) == masked
        rest = PLACEHOLDER.sub("\0", masked)
        assert [
            one
            for one in found
            if len(text[one.start : one.end]) >= 8 and text[one.start : one.end] in rest
        ] == []


@given(written=TEXTS, said=TEXTS, places=st.lists(st.integers(0, 500), max_size=20))
@settings(max_examples=300, deadline=None)
def test_a_stream_says_what_the_whole_says(written: str, said: str, places: list[int]) -> None:
    """Whatever the model says: its answer need not be what was masked."""
    vault = Vault()
    vault.mask(written)

    assert streamed(vault, cut(said, places)) == vault.unmask(said)
    assert streamed(vault, cut(said, places), as_json=True) == vault.unmask(said, json=True)


@given(text=st.lists(st.sampled_from([*LOOK_ALIKES, " ", "a", "\n"])).map("".join))
def test_what_only_looks_like_a_placeholder_stays(text: str) -> None:
    vault = Vault()

    assert vault.mask(text) == text
    masked = vault.mask(f"{text} anna@example.com (602) 272-9781")
    assert len(vault) == 2
    assert vault.unmask(text) == text
    assert vault.unmask(masked) == f"{text} anna@example.com (602) 272-9781"


def test_the_numbers_that_the_users_own_text_has_are_not_given_out() -> None:
    vault = Vault()

    assert vault.mask("<EMAIL_1> or < email 2 > or anna@example.com") == (
        "<EMAIL_1> or < email 2 > or <EMAIL_3>"
    )


def test_an_original_has_one_placeholder_in_the_whole_conversation() -> None:
    vault = Vault()

    assert vault.mask("mail anna@example.com") == "mail <EMAIL_1>"
    assert vault.mask("or bob@example.com") == "or <EMAIL_2>"
    assert vault.mask("anna@example.com again") == "<EMAIL_1> again"
    assert len(vault) == 2


@given(texts=st.lists(TEXTS, max_size=4))
@settings(deadline=None)
def test_a_new_vault_gives_the_same_history_the_same_placeholders(texts: list[str]) -> None:
    """So what a backend has cached of a conversation stays good."""
    first, again = Vault(), Vault()
    masked = [first.mask(text) for text in texts]

    assert [again.mask(text) for text in texts] == masked


def test_a_known_original_is_masked_where_nothing_else_gives_it_away() -> None:
    vault = Vault()
    vault.mask("password = hunter2")

    assert vault.mask("I typed hunter2, not hunter22") == "I typed <PASSWORD_1>, not hunter22"


def test_a_short_original_is_masked_where_a_masked_neighbour_leaves_it_alone() -> None:
    """The first number is found because it stands elsewhere: the password beside it comes last."""
    vault = Vault()
    masked = vault.mask("/ab!c13800138000/ SSN13800138000call 密码是ab!c。")

    assert masked == "/<PASSWORD_1><PHONE_1>/ SSN<PHONE_1>call 密码是<PASSWORD_1>。"
    assert vault.mask(masked) == masked


def test_a_password_that_is_a_placeholders_name_breaks_no_placeholder() -> None:
    vault = Vault()
    masked = vault.mask("password: EMAIL_1 and anna@example.com")

    assert vault.mask(masked) == masked
    assert vault.unmask(masked) == "password: EMAIL_1 and anna@example.com"


@pytest.mark.parametrize(
    "written",
    [
        *("<EMAIL_1>", "<email_1>", "<Email_1>", "< EMAIL_1 >", "<EMAIL 1>", "<email-1>"),
        *("&lt;EMAIL_1&gt;", "<EMAIL\\_1>", "\\u003cEMAIL_1\\u003E"),
    ],
)
def test_a_placeholder_is_known_however_a_model_writes_it(written: str) -> None:
    vault = Vault()
    vault.mask("anna@example.com")

    assert vault.unmask(f"Dear {written}!") == "Dear anna@example.com!"
    assert streamed(vault, list(f"Dear {written}!")) == "Dear anna@example.com!"


def test_another_spelling_that_the_user_wrote_is_the_users() -> None:
    vault = Vault()
    vault.mask("anna@example.com")
    vault.mask("what is <email_1>?")

    assert vault.unmask("<email_1> and <EMAIL_1>") == "<email_1> and anna@example.com"


def test_a_placeholder_that_was_never_given_out_stays() -> None:
    vault = Vault()
    vault.mask("anna@example.com")

    assert vault.unmask("<EMAIL_2> <PHONE_1>") == "<EMAIL_2> <PHONE_1>"


@given(text=st.text(max_size=30), places=st.lists(st.integers(0, 200), max_size=9))
def test_the_arguments_of_a_call_stay_json(text: str, places: list[int]) -> None:
    secret = f'p"\\{text}\n1'.replace("'", "").replace("<", "").replace(">", "")
    vault = Vault()
    given = vault._placeholder("password", secret)
    arguments = json.dumps({"to": given, "text": f"say {given}!"})

    whole = streamed(vault, cut(arguments, places), as_json=True)
    assert json.loads(whole) == {"to": secret, "text": f"say {secret}!"}


@given(pieces=st.lists(PIECES, max_size=20))
@settings(deadline=None)
def test_no_more_is_held_back_than_a_placeholder_has(pieces: list[str]) -> None:
    vault = Vault()
    vault.mask("anna@example.com (602) 272-9781 password: hunter2x")
    unmasker, fed, given_out = Unmasker(vault), 0, 0
    for piece in pieces:
        fed += len(piece)
        given_out += len(re.sub("[^\0]", "\0", unmasker.feed(piece)))

        assert fed - given_out <= LONGEST


@pytest.mark.timeout(60)
def test_a_long_text_full_of_originals_is_masked_in_time() -> None:
    text = "".join(f"call 138{number:08} or {number}@example.com\n" for number in range(20_000))
    vault = Vault()
    masked = vault.mask(text)

    assert len(vault) == 40_000
    assert vault.unmask(masked) == text


def test_nothing_is_held_back_that_begins_no_placeholder_of_this_vault() -> None:
    vault = Vault()
    unmasker = Unmasker(vault)
    assert unmasker.feed("a <EMAIL_") == "a <EMAIL_"  # the vault is empty

    vault.mask("anna@example.com")
    assert unmasker.feed("if a <") == "if a "
    assert unmasker.feed("b: <PHO") == "<b: <PHO"
    assert unmasker.feed("x <EMAIL") == "x "
    assert unmasker.feed("_1") == ""
    assert unmasker.feed("> <EMAIL_1") == "anna@example.com "
    assert unmasker.flush() == "<EMAIL_1"


def test_a_vault_shows_and_pickles_nothing() -> None:
    vault = Vault()
    vault.mask("anna@example.com")
    unmasker = Unmasker(vault)
    unmasker.feed("<EMAIL_1")

    assert "anna" not in repr(vault) + str(vault) + repr(unmasker) + f"{[vault]}"
    assert "EMAIL" not in repr(unmasker)
    with pytest.raises(TypeError):
        pickle.dumps(vault)


def test_only_the_kinds_of_the_vault_are_masked() -> None:
    vault = Vault(kinds=["phone", "url"])

    assert vault.mask("anna@example.com, (602) 272-9781, https://example.com/x") == (
        "anna@example.com, <PHONE_1>, <URL_1>"
    )


def test_an_original_that_is_cut_off_at_a_text_s_end_is_seen() -> None:
    vault = Vault()
    vault.mask("Write to ada.lovelace@example.org or call 13812345678.")

    for cut in ("it is ada.", "it is ada.lovelace@exam", "it is 138", "it is 1381234567"):
        assert vault.ends_within_one(cut)
    for whole in ("", "it is ad", "it is <EMAIL_1>", "ada.lovelace wrote", "13812345678, she said"):
        assert not vault.ends_within_one(whole)
