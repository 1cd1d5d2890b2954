import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.gateway.quality.features import LONGEST, MADE, SIZE, features


@given(st.text())
def test_any_text_has_finite_features(text: str) -> None:
    row = features(text)

    assert row.shape == (SIZE,)
    assert np.isfinite(row).all()
    assert np.linalg.norm(row[MADE:]) == pytest.approx(1.0) or len(text.strip()) < 2


@given(st.text(alphabet="0123456789.,", max_size=40))
def test_whatever_looks_like_a_number_is_read(text: str) -> None:
    assert np.isfinite(features(text)).all()


def test_lone_surrogates_and_odd_digits_do_no_harm() -> None:
    assert np.isfinite(features("\ud800 ٣٤ ²³ 1.2.3 9" + "9" * 400)).all()


def test_digits_and_white_space_are_alike_in_pieces_of_text() -> None:
    one, other = features("pay 123 coins"), features("pay  987\ncoins")

    assert one[MADE:] == pytest.approx(other[MADE:])


def test_of_a_long_prompt_the_beginning_counts_and_the_length() -> None:
    beginning = "word " * LONGEST
    one, other = features(beginning + "percent"), features(beginning * 2)

    changed = np.flatnonzero(one != other)
    assert len(changed) == 1  # how long it is
    assert one[changed[0]] == pytest.approx(np.log1p(len(beginning) + 7))


def test_a_prompt_of_a_megabyte_takes_no_longer_than_a_page() -> None:
    features("warm")
    begun = time.perf_counter()
    features("1,2.3 aé " * 110_000)

    assert time.perf_counter() - begun < 0.1
