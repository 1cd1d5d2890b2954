from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judged_prompts import easy, hard, trained
from tokenworks.errors import ConfigError
from tokenworks.gateway.backend import BackendStatus, Completion
from tokenworks.gateway.model_choice import LATEST, ModelChooser, QualityPolicy, texts_of_user

ROUTER = trained()
CHOOSER = ModelChooser.of(QualityPolicy(router="r", quality=1.0), ROUTER)


def asks(*texts: str, role: str = "user") -> Completion:
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for text in texts]
    return Completion(request_id="r", model="auto", messages=messages)


def test_easy_prompts_go_to_the_weak_model_and_hard_ones_to_the_strong() -> None:
    for seed in range(500, 520):
        assert CHOOSER.choose(asks(easy(seed)), "near").first == "small"
        choice = CHOOSER.choose(asks(hard(seed)), "near")
        assert (choice.first, choice.other) == ("large", "small")
        bare = Completion(request_id="r", model="auto", prompt=hard(seed))
        assert CHOOSER.choose(bare, "cost").first == "large"


def test_a_follow_up_is_as_hard_as_what_it_follows() -> None:
    assert CHOOSER.choose(asks(hard(1), easy(2), easy(3)), "near").first == "large"
    long_ago = asks(hard(1), *(easy(seed) for seed in range(LATEST)))
    assert CHOOSER.choose(long_ago, "near").first == "small"


def test_what_others_than_the_user_say_makes_nothing_hard() -> None:
    request = asks(easy(1))
    others = [{"role": role, "content": hard(1)} for role in ("system", "assistant", "tool")]
    request = replace(request, messages=[*others, *(request.messages or ())])

    assert CHOOSER.choose(request, "near").first == "small"


@pytest.mark.parametrize(
    "request_",
    [
        Completion(request_id="r", model="auto", prompt=[1, 2, 3]),
        Completion(request_id="r", model="auto", prompt="  "),
        Completion(request_id="r", model="auto", messages=[]),
        Completion(
            request_id="r",
            model="auto",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": easy(1)},
                        {"type": "image_url", "image_url": {"url": "data:,"}},
                    ],
                }
            ],
        ),
    ],
)
def test_what_cannot_be_judged_goes_to_the_strong_model(request_: Completion) -> None:
    choice = CHOOSER.choose(request_, "near")

    assert choice.first == "large"
    assert choice.chances is None
    assert "no text" in choice.why


def test_parts_of_text_are_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = replace(asks(), messages=[{"role": "user", "content": parts}])

    assert texts_of_user(request) == ["a\nb"]


def test_for_the_objective_quality_the_likelier_model_answers_whatever_it_costs() -> None:
    cheap = ModelChooser.of(QualityPolicy(router="r", quality=0.01), ROUTER)
    assert cheap.point.quality == 0.8
    assert {cheap.choose(asks(hard(seed)), "quality").first for seed in range(9)} == {"large"}


@given(st.text(max_size=200), st.sampled_from([0.8, 0.9, 0.95, 1.0]))
def test_a_decision_follows_from_what_it_says(text: str, quality: float) -> None:
    chooser = ModelChooser.of(QualityPolicy(router="r", quality=quality), ROUTER)
    choice = chooser.choose(asks(text), "near")

    if choice.chances is None:
        assert choice.first == "large"
    else:
        gain = choice.chances["large"] - choice.chances["small"]
        assert choice.first == ("large" if gain >= choice.point.threshold else "small") or (
            abs(gain - choice.point.threshold) < 1e-3  # chances are told rounded
        )


def test_an_explanation_holds_nothing_that_was_said() -> None:
    said = "Xylophone of the Quetzal " + hard(1)
    told = str(CHOOSER.choose(asks(said), "near").explain("large"))

    assert "Xylophone" not in told
    assert "Quetzal" not in told


def test_our_names_of_the_models_take_the_place_of_the_router_s() -> None:
    policy = QualityPolicy(router="r", model="best", weak="near", strong="far")
    choice = ModelChooser.of(policy, ROUTER).choose(asks(hard(1)), "near")

    assert (choice.alias, choice.first, choice.other) == ("best", "far", "near")
    assert set(choice.chances or {}) == {"near", "far"}


@pytest.mark.parametrize(
    "policy",
    [
        QualityPolicy(router="r", model="Small"),
        QualityPolicy(router="r", weak="LARGE"),
        QualityPolicy(router="r", model="x", strong="X"),
    ],
)
def test_three_names_must_differ(policy: QualityPolicy) -> None:
    with pytest.raises(ConfigError, match="three names"):
        ModelChooser.of(policy, ROUTER)


def test_the_name_answers_as_long_as_one_of_its_models_does() -> None:
    ready, down = BackendStatus(state="ready"), BackendStatus(state="failed")

    assert CHOOSER.status({"Small": ready, "large": down}).state == "ready"
    assert CHOOSER.status({"small": down, "large": down}).state == "failed"
    assert CHOOSER.status({}).state == "failed"
    assert CHOOSER.means("AUTO")
    assert not CHOOSER.means("auto2")
