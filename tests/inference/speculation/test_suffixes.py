"""The suffix automaton against what a search of the text says."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tokenworks.inference._kernels import Suffixes

WORDS = st.lists(st.integers(0, 2), max_size=24)


def occurrences(text: list[int], part: list[int]) -> list[int]:
    """The places after each occurrence."""
    return [end for end in range(len(part), len(text) + 1) if text[end - len(part) : end] == part]


def likeliest_next(texts: list[list[int]], part: list[int]) -> set[int]:
    followed = Counter(
        text[end] for text in texts for end in occurrences(text, part) if end < len(text)
    )
    most = max(followed.values(), default=0)
    return {token for token, count in followed.items() if count == most}


@given(WORDS)
def test_the_tail_is_the_longest_end_that_stands_elsewhere(text: list[int]) -> None:
    suffixes = Suffixes()
    suffixes.add(text)
    longest = max(
        length
        for length in range(len(text) + 1)
        if length == 0 or len(occurrences(text, text[-length:])) > 1
    )
    assert suffixes.size == len(text)
    assert suffixes.tail()[1] == longest


@given(WORDS)
def test_a_guess_is_what_followed_most_often(text: list[int]) -> None:
    suffixes = Suffixes()
    suffixes.add(text)
    state, length = suffixes.tail()
    guess = suffixes.guess(state, length)
    if length == 0:
        assert guess is None
        return
    assert guess is not None
    part = text[-length:]
    assert guess[0] in likeliest_next([text], part)
    followed = [end for end in occurrences(text, part) if end < len(text)]
    count = sum(text[end] == guess[0] for end in followed)
    assert abs(guess[1] - count / len(followed)) < 1e-6


@given(st.lists(WORDS, max_size=4), WORDS, WORDS)
def test_another_text_is_followed_while_texts_are_added(
    texts: list[list[int]], other: list[int], late: list[int]
) -> None:
    suffixes = Suffixes()
    for text in texts:
        suffixes.add(text)
        suffixes.end()
    place = (0, 0)
    known = list(texts)
    for number, token in enumerate(other):
        if number == len(other) // 2:  # states are split beneath the place
            suffixes.add(late)
            suffixes.end()
            known.append(late)
        place = suffixes.follow(*place, token)
        read = other[: number + 1]
        assert place[1] == 0 or any(occurrences(text, read[-place[1] :]) for text in known)
    fresh = (0, 0)
    for token in other:
        fresh = suffixes.follow(*fresh, token)
    longest = max(
        length
        for length in range(len(other) + 1)
        if length == 0 or any(occurrences(text, other[-length:]) for text in known)
    )
    assert fresh[1] == longest
    if longest and (guess := suffixes.guess(*fresh)):
        assert guess[0] in likeliest_next(known, other[-longest:])


def test_a_guess_of_equals_is_the_latest() -> None:
    suffixes = Suffixes()
    suffixes.add([1, 2, 1, 3, 9, 1])
    guess = suffixes.guess(*suffixes.tail())
    assert guess == (3, 0.5)
