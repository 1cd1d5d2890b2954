"""Which label findings call for."""

import pytest

from tokenworks.gateway.labels import Label
from tokenworks.gateway.privacy.entities import KINDS
from tokenworks.gateway.privacy.labels import LABEL_OF_KIND, label_of_kind, label_of_text


def test_every_kind_has_a_label() -> None:
    assert set(LABEL_OF_KIND) == set(KINDS)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("nothing here", Label.PUBLIC),
        ("see https://example.org on 2024-03-05", Label.PUBLIC),
        ("the firm 91350100M000100Y43", Label.INTERNAL),
        ("mail anna@example.com", Label.PRIVATE),
        ("mail anna@example.com, password = hunter2", Label.SECRET),
        ("postgres://app:s3cr3t@db.example.com/x", Label.SECRET),
    ],
)
def test_a_text_has_the_highest_label_of_what_it_holds(text: str, label: Label) -> None:
    assert label_of_text(text) == label


def test_a_policy_may_call_kinds_otherwise() -> None:
    ours = {"email": Label.SECRET, "date": Label.PRIVATE}

    assert label_of_text("mail anna@example.com", ours) == Label.SECRET
    assert label_of_text("on 2024-03-05", ours) == Label.PRIVATE
    assert label_of_kind("phone", ours) == Label.PRIVATE


def test_a_kind_that_there_is_not_is_an_error() -> None:
    with pytest.raises(KeyError):
        label_of_kind("shoe_size")
