"""The trained router: what it is, and what it says of a prompt. Pure."""

from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ConfigError
from tokenworks.gateway.quality.calibration import Bin, calibration_error, sigmoid
from tokenworks.gateway.quality.features import features
from tokenworks.gateway.quality.thresholds import Point

Numbers = NDArray[np.float64]

NOT_MORE: Final = 1e-9
"""Two qualities that are nearer than this are one: they were written in decimals."""


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the two. `score` is its mean one in training; `weights` are little-endian 32-bit
    floats, one a feature; `reliability` is of predictions of prompts that no fit had seen."""

    name: str
    score: float
    penalty: float
    bias: float
    weights: bytes
    reliability: tuple[Bin, ...]


class QualityRouter(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True
):
    """`quality` is what it was trained for, `curve` what is known of it and of others, by quality.

    `prompts` it was trained on, with so many `features`, on that `date`.
    """

    weak: Model
    strong: Model
    quality: float
    curve: tuple[Point, ...]
    prompts: int
    date: str
    features: int

    def chances(self, prompts: list[str]) -> tuple[Numbers, Numbers]:
        """How likely the weak and the strong model answer each prompt rightly; (n,) each."""
        return self.chances_of(np.array([features(prompt) for prompt in prompts]))

    def chances_of(self, rows: Numbers) -> tuple[Numbers, Numbers]:
        """The same for rows (n, SIZE) of features."""
        both = sigmoid(rows @ self._weights + self._bias)
        return both[:, 0], both[:, 1]

    def point(self, quality: float | None = None) -> Point:
        """That of the least quality on the curve that keeps `quality`, or what it is trained for.

        Raises ConfigError for one that no point keeps.
        """
        wanted = self.quality if quality is None else quality
        for one in self.curve:
            if one.quality >= wanted - NOT_MORE:
                return one
        raise ConfigError(f"The router knows no threshold for a quality of {wanted:g}")

    def described(self) -> dict[str, Any]:
        """For people and programs: all but its weights."""

        def model(one: Model) -> dict[str, Any]:
            return {
                "name": one.name,
                "score": one.score,
                "calibration_error": calibration_error(one.reliability),
                "reliability": msgspec.to_builtins(one.reliability),
            }

        return {
            "weak": model(self.weak),
            "strong": model(self.strong),
            "quality": self.quality,
            "prompts": self.prompts,
            "date": self.date,
            "curve": msgspec.to_builtins(self.curve),
        }

    @cached_property
    def _weights(self) -> Numbers:
        both = [np.frombuffer(one.weights, "<f4") for one in (self.weak, self.strong)]
        return np.stack(both, axis=1).astype(np.float64)

    @cached_property
    def _bias(self) -> Numbers:
        return np.array([self.weak.bias, self.strong.bias])
