"""Made-up prompts of two kinds with made-up scores, and a router trained on them."""

import random

import numpy as np

from tokenworks.gateway.quality.router import QualityRouter
from tokenworks.gateway.quality.training import Pairs, train

THINGS = ("apples", "books", "coins", "ducks", "eggs", "forks", "goats", "hats")
NAMES = ("small", "large")


def easy(seed: int) -> str:
    draw = random.Random(seed)
    return f"What colour do {draw.choice(THINGS)} have? Say it in {seed + 1} words."


def hard(seed: int) -> str:
    draw = random.Random(seed)
    return (
        f"Prove that {draw.randint(2, 99)} percent more {draw.choice(THINGS)} than "
        f"{seed + 100} cost a third less each week, then derive the difference."
    )


def judged(count: int = 120) -> Pairs:
    """Half of them hard: those the weak model never answers rightly, the strong one always."""
    prompts = [hard(row) if row % 2 else easy(row) for row in range(count)]
    weak = np.array([float(row % 2 == 0) for row in range(count)])
    return Pairs(prompts=prompts, weak=weak, strong=np.ones(count), names=NAMES)


def noise(count: int, seed: int, weak: float, strong: float) -> Pairs:
    """Scores that have nothing to do with the prompts, which are all different."""
    draw = np.random.default_rng(seed)
    prompts = [f"{easy(row + seed)} {draw.integers(10**12)}" for row in range(count)]
    scores = [(draw.random(count) < chance).astype(float) for chance in (weak, strong)]
    return Pairs(prompts=prompts, weak=scores[0], strong=scores[1], names=NAMES)


def trained(quality: float = 0.95) -> QualityRouter:
    return train(judged(), quality=quality, date="2026-11-28")
