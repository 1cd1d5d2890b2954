"""What is guessed: from the text itself, from earlier answers, from the model's own successors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.inference.speculation.acceptance import Acceptance
from tokenworks.inference.speculation.drafting import Drafting, TenantMemory
from tokenworks.inference.speculation.sources import KINDS, EarlierAnswers
from tokenworks.inference.speculation.speculator import Speculator

UNLIKELY = 999


def drafting(prompt: list[int], memory: TenantMemory | None = None) -> Drafting:
    return Drafting(prompt, memory or TenantMemory(), Acceptance(KINDS))


def looked_at(text: Drafting, token: int, likeliest: int = UNLIKELY) -> None:
    """The next token of a text of which a draft was wanted."""
    text.draft(1, 1.0)
    text.read(token, likeliest)


class Text:
    """A sequence, as much of it as a speculator looks at."""

    def __init__(self, tokens: list[int], tenant: str = "") -> None:
        self.tenant, self.tokens, self.allowed = tenant, tokens, 100
        self.drafting: Drafting | None = None


def test_a_text_that_says_again_what_it_said_is_guessed() -> None:
    text = drafting([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3])
    assert text.draft(4, 0.0).tokens == [4, 5, 6, 7]


def test_chances_fall_along_a_draft_and_end_it() -> None:
    text = drafting([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3])
    chances = text.draft(4, 0.0).chances
    assert chances == sorted(chances, reverse=True)
    assert len(text.draft(4, chances[1]).tokens) == 2


def test_a_text_that_says_nothing_twice_is_not_guessed() -> None:
    assert drafting([1, 2, 3, 4]).draft(4, 0.0).tokens == []
    assert drafting([]).draft(4, 0.0).tokens == []


def test_an_earlier_answer_is_guessed_and_not_that_of_another_tenant() -> None:
    speculator = Speculator()
    speculator.remember("one", [10, 11, 12, 13, 14])

    texts = [Text([5, 10, 11], "one"), Text([5, 10, 11], "another")]
    drafts = speculator.drafts(texts, 2, 50, lambda _: 0.01)
    assert drafts[0][:3] == [12, 13, 14]
    assert drafts[1] == []


def test_the_models_own_successors_are_guessed_in_other_texts_of_the_tenant() -> None:
    memory = TenantMemory()
    first = drafting([1, 2], memory)
    looked_at(first, 7, likeliest=3)  # after 1 2 it would rather have said 3
    looked_at(first, 8, likeliest=8)
    assert drafting([1, 2], memory).draft(1, 0.0).tokens == [3]
    assert drafting([9, 7], memory).draft(1, 0.0).tokens == [8]  # after 7 alone


def test_guesses_that_are_right_are_trusted_more_and_others_less() -> None:
    text = drafting([1, 2, 3, 4, 5, 6] * 4 + [1, 2])
    before = text.draft(1, 0.0).chances[0]
    for token in (3, 4, 5, 6, 1, 2):
        looked_at(text, token)
    after = text.draft(1, 0.0).chances[0]
    assert after > before
    for token in (70, 3, 71, 4, 72, 5, 73, 1, 2):
        looked_at(text, token)
    assert text.draft(1, 0.0).chances[0] < after


def test_each_token_of_a_draft_is_learnt_from() -> None:
    common = Acceptance(KINDS)
    text = Drafting([1, 2, 3, 4, 5, 6] * 4 + [1, 2], TenantMemory(), common)
    before = text.draft(5, 0.0).chances[0]
    for token in (3, 4, 5, 6, 1):  # as one forward verifies them
        text.read(token, UNLIKELY)
    learnt = text.draft(1, 0.0).chances[0]
    other = Drafting([1, 2, 3, 4, 5, 6] * 4 + [1, 2], TenantMemory(), Acceptance(KINDS))
    other.draft(1, 0.0)
    for token in (3, 4, 5, 6, 1):
        other.read(token, UNLIKELY)
    assert learnt > other.draft(1, 0.0).chances[0] > before


@given(st.lists(st.integers(0, 3), min_size=3, max_size=80), st.data())
def test_a_text_that_was_only_noted_stands_where_one_stands_that_was_followed(
    tokens: list[int], data: st.DataObject
) -> None:
    begun = data.draw(st.integers(1, len(tokens)))
    memory = TenantMemory()
    memory.answers.remember(data.draw(st.lists(st.integers(0, 3), max_size=60)))
    followed, noted = drafting(tokens[:begun], memory), drafting(tokens[:begun], memory)
    noted.draft(1, 0.0)
    for token in tokens[begun:]:
        noted.read(token, UNLIKELY)
    for token in tokens[begun:]:
        followed.draft(1, 1.0)  # last, as it changes what the memory holds of successors
        followed.read(token, 0)
    assert own_guess(noted) == own_guess(followed)


def own_guess(text: Drafting) -> list[int]:
    """What the text's own past says comes next, and what earlier answers say."""
    text.draft(1, 1.0)
    guesses = text._guesses
    assert guesses is not None
    return [-1 if guess is None else guess[0] for guess in guesses[:2]]


def test_texts_in_which_nothing_is_found_are_looked_at_seldom_and_others_each_time() -> None:
    def looks(texts: list[Text], forwards: int) -> int:
        """How often a draft was wanted: a text that was not looked at has guessed nothing."""
        speculator, count = Speculator(), 0
        for number in range(forwards):
            speculator.drafts(texts, len(texts), 50, lambda rows: 0.02 + 0.005 * rows)
            count += texts[0].drafting is not None and texts[0].drafting._guesses is not None
            for place, text in enumerate(texts):
                if text.drafting is not None:
                    text.drafting.read(1000 + number * 10 + place, UNLIKELY)
        return count

    assert looks([Text([1, 2, 3]) for _ in range(3)], 400) == 400
    assert 16 <= looks([Text([1, 2, 3]) for _ in range(8)], 400) < 45


def test_a_text_that_begins_to_repeat_itself_is_found_again() -> None:
    texts, speculator = [Text([1, 2, 3]) for _ in range(8)], Speculator()

    def drafted() -> bool:
        drafts = speculator.drafts(texts, 8, 50, lambda rows: 0.02 + 0.005 * rows)
        return any(drafts)

    def say(number: int, token: int) -> None:
        for place, text in enumerate(texts):
            if text.drafting is not None:
                text.drafting.read(1000 * place + token if place else token, 10**6 + number)

    for number in range(200):
        drafted()
        say(number, 5000 + number)
    found = 0
    for number in range(200):
        found += drafted()
        say(number, (9001, 9002, 9003)[number % 3])
    assert found > 100


def test_one_texts_chances_start_from_what_all_texts_taught() -> None:
    common = Acceptance(KINDS)
    for _ in range(50):
        Acceptance(KINDS, common).record(3, True)
    assert Acceptance(KINDS, common).chance(3) > 0.9
    own = Acceptance(KINDS, common)
    for _ in range(20):
        own.record(3, False)
    assert own.chance(3) < 0.3
    assert 0.0 < own.chance(4) < 1.0


def test_only_the_latest_answers_are_remembered() -> None:
    answers = EarlierAnswers(most_tokens=100)
    for first in range(0, 1000, 50):
        answers.remember(list(range(first, first + 50)))

    def after(token: int) -> int | None:
        guess = answers.guess(answers.follow(answers.start, token))
        return None if guess is None else guess[0]

    assert after(960) == 961
    assert after(870) == 871  # the older half
    assert after(10) is None


def test_a_place_outlives_what_it_was_found_in() -> None:
    answers = EarlierAnswers(most_tokens=10)
    answers.remember(list(range(8)))
    place = answers.follow(answers.start, 3)
    for half in range(4):
        guess = answers.guess(place)
        assert guess is None or guess[0] == 4
        answers.remember(list(range(100 * half + 100, 100 * half + 108)))
    assert answers.guess(place) is None
    assert answers.guess(answers.follow(place, 401)) is not None


@pytest.mark.parametrize("length", [0, 1])
def test_an_answer_without_a_second_token_teaches_nothing(length: int) -> None:
    speculator = Speculator()
    speculator.remember("", [4] * length)
    memory = TenantMemory()
    memory.answers.remember([4] * length)
    assert drafting([4], memory).draft(3, 0.0).tokens == []
