"""What is guessed: from the text itself, from earlier answers, from the model's own successors."""

import pytest

from tokenworks.inference.speculation.acceptance import Acceptance
from tokenworks.inference.speculation.drafting import Drafting, TenantMemory
from tokenworks.inference.speculation.sources import KINDS, EarlierAnswers
from tokenworks.inference.speculation.speculator import Speculator

UNLIKELY = 999


def drafting(prompt: list[int], memory: TenantMemory | None = None) -> Drafting:
    return Drafting(prompt, memory or TenantMemory(), Acceptance(KINDS))


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

    class Text:
        def __init__(self, tenant: str) -> None:
            self.tenant, self.tokens, self.allowed = tenant, [5, 10, 11], 100
            self.drafting: Drafting | None = None

    texts = [Text("one"), Text("another")]
    drafts = speculator.drafts(texts, 2, 50, lambda _: 0.01)
    assert drafts[0][:3] == [12, 13, 14]
    assert drafts[1] == []


def test_the_models_own_successors_are_guessed_in_other_texts_of_the_tenant() -> None:
    memory = TenantMemory()
    first = drafting([1, 2], memory)
    first.read(7, likeliest=3)  # after 1 2 it would rather have said 3
    first.read(8, likeliest=8)
    assert drafting([1, 2], memory).draft(1, 0.0).tokens == [3]
    assert drafting([9, 7], memory).draft(1, 0.0).tokens == [8]  # after 7 alone


def test_guesses_that_are_right_are_trusted_more_and_others_less() -> None:
    text = drafting([1, 2, 3, 4, 5, 6] * 4 + [1, 2])
    before = text.draft(1, 0.0).chances[0]
    for token in (3, 4, 5, 6, 1, 2):
        text.read(token, UNLIKELY)
    after = text.draft(1, 0.0).chances[0]
    assert after > before
    for token in (70, 3, 71, 4, 72, 5, 73):
        text.read(token, UNLIKELY)
    text.read(1, UNLIKELY)
    text.read(2, UNLIKELY)
    assert text.draft(1, 0.0).chances[0] < after


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
