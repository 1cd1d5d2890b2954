from dataclasses import replace

import numpy as np
import pytest

from judged_prompts import easy, hard, judged, noise, trained
from tokenworks.errors import ConfigError, RequestError
from tokenworks.gateway.quality.router import QualityRouter
from tokenworks.gateway.quality.training import train


def up(router: QualityRouter, prompts: list[str], quality: float | None = None) -> np.ndarray:
    weak, strong = router.chances(prompts)
    return np.asarray(strong - weak >= router.point(quality).threshold)


def test_what_only_the_strong_model_can_goes_to_it() -> None:
    router = trained()
    hard_ones = [hard(seed) for seed in range(1000, 1050)]

    assert up(router, hard_ones, 1.0).all()
    assert not up(router, [easy(seed) for seed in range(1000, 1050)], 1.0).any()
    assert 0 < router.point(0.9).share < router.point(1.0).share == 0.5  # no more than it takes


@pytest.mark.parametrize("seed", range(3))
def test_a_router_that_has_learnt_nothing_claims_nothing(seed: int) -> None:
    """A fit predicts the scores that it has seen far too well, noise too. Thresholds that were set
    on such predictions would promise the quality for few calls, and break the promise."""
    pairs = noise(300, seed, weak=0.5, strong=0.9)
    router = train(pairs, quality=0.95, date="")
    worst, best = pairs.weak.mean(), pairs.strong.mean()
    random_share = (0.95 * best - worst) / (best - worst)

    assert router.point().share >= random_share - 0.12


def test_the_quality_holds_on_prompts_that_nobody_has_seen() -> None:
    """Half of the prompts have a tell-tale word; scores follow it in four of five cases."""
    kept = []
    for seed in range(12):
        pairs = noise(500, seed, weak=0.9, strong=0.9)
        draw = np.random.default_rng(seed)
        tells = draw.random(500) < 0.5
        weak = np.where(tells & (draw.random(500) < 0.8), 0.0, pairs.weak)
        prompts = [
            f"{prompt} Prove it." if told else prompt
            for prompt, told in zip(pairs.prompts, tells, strict=True)
        ]
        known = replace(pairs, prompts=prompts[:250], weak=weak[:250], strong=pairs.strong[:250])
        router = train(known, quality=0.9, date="")
        asked = up(router, prompts[250:])
        got = np.where(asked, pairs.strong[250:], weak[250:]).mean()
        kept.append(got / pairs.strong[250:].mean())
        assert 0.1 < asked.mean() < 0.9

    assert np.mean(kept) >= 0.9


def test_prompts_that_are_there_twice_count_once() -> None:
    pairs = noise(80, 3, weak=0.5, strong=0.9)
    twice = replace(
        pairs,
        prompts=[*pairs.prompts, *(f" {prompt.upper()} " for prompt in pairs.prompts)],
        weak=np.tile(pairs.weak, 2),
        strong=np.tile(pairs.strong, 2),
    )

    assert train(twice, quality=0.95, date="") == train(pairs, quality=0.95, date="")


def test_chances_are_calibrated_on_prompts_that_no_fit_has_seen() -> None:
    pairs = noise(400, 1, weak=0.5, strong=0.9)
    router = train(pairs, quality=0.95, date="")
    weak, strong = router.chances([f"{easy(seed)} {seed}" for seed in range(5000, 5200)])

    assert abs(weak.mean() - 0.5) < 0.12
    assert abs(strong.mean() - 0.9) < 0.06
    assert sum(one.prompts for one in router.weak.reliability) == 400


def test_a_quality_takes_the_next_higher_one_that_is_known() -> None:
    router = trained(0.955)

    assert router.point().quality == 0.955
    assert router.point(0.951).quality == 0.955
    assert router.point(0.1 + 0.8).quality == 0.9
    assert router.point(0.5).quality == 0.8
    assert router.point(1.0).quality == 1.0
    with pytest.raises(ConfigError):
        router.point(1.1)


@pytest.mark.parametrize(
    ("changes", "quality", "said"),
    [
        ({}, 0.0, "quality of 0"),
        ({}, 1.5, "quality of 1.5"),
        ({"weak": np.ones(120)}, 0.95, "no stronger"),
        ({"weak": np.full(120, 2.0)}, 0.95, "'small' must be"),
        ({"strong": np.full(120, np.nan)}, 0.95, "'large' must be"),
        ({"strong": np.ones(3)}, 0.95, "'large' must be"),
        ({"prompts": ["the same"] * 120}, 0.95, "1 different prompts are too few"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(
    changes: dict[str, object], quality: float, said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        train(replace(judged(), **changes), quality=quality, date="")  # type: ignore[arg-type]


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(RequestError, match="too few"):
        train(judged(20), quality=0.95, date="")
