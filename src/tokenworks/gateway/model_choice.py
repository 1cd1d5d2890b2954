"""Which of two models an alias means for a request: the trained router's decision. Pure.

It says which model is to be asked, and never where: labels and all other rules come after it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from tokenworks.errors import ConfigError
from tokenworks.gateway.backend import BackendStatus, Completion
from tokenworks.gateway.quality.router import QualityRouter
from tokenworks.gateway.quality.thresholds import Point
from tokenworks.gateway.ranking import Objective, RuledOut
from tokenworks.gateway.request_text import is_readable

LATEST: Final = 4
"""Messages of the user that are looked at: "Go on." is as hard as what it follows."""


class QualityPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One name for two models, and what of the strong one's quality is to be kept."""

    router: str  # file that `tokenworks route train` wrote; relative to the policies' folder
    model: str = "auto"  # the name that clients ask for
    quality: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None  # None: as it was trained for
    weak: str = ""  # our name of the router's weak model, where it is another one
    strong: str = ""  # and of the strong one

    def __post_init__(self) -> None:
        if not self.router:
            raise ConfigError("quality.router is empty", hint="name the file of a trained router")
        if not (0 < len(self.model) <= 200 and self.model.isprintable()):
            raise ConfigError(f"quality.model is no name of a model: {self.model[:80]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """`first` is to be asked, and `other` where nobody that has the first may answer.

    `chances` are those of the weak and the strong model to answer rightly; None: nobody knows.
    """

    alias: str
    first: str
    other: str
    why: str
    chances: dict[str, float] | None
    point: Point

    def explain(self, model: str, ruled_out: Iterable[RuledOut] = ()) -> dict[str, Any]:
        """For people and programs, `model` being the one that answers; `ruled_out` are those that
        have the first one. Holds nothing that the request said."""
        at = self.point.threshold
        told: dict[str, Any] = {
            "asked_for": self.alias,
            "model": model,
            "why": self.why,
            "quality": self.point.quality,
            "chances": self.chances,
            "threshold": round(at, 4) if np.isfinite(at) else None,
        }
        if model != self.first:
            told["why"] = f"{self.why}, but no backend that has {self.first!r} may answer now"
            told["instead_of"] = {
                "model": self.first,
                "ruled_out": [
                    {"backend": one.name, "rule": one.rule, "why": one.why} for one in ruled_out
                ],
            }
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChooser:
    """A router with the policy for it. Raises ConfigError where they do not go together."""

    alias: str
    weak: str
    strong: str
    router: QualityRouter
    point: Point

    @classmethod
    def of(cls, policy: QualityPolicy, router: QualityRouter) -> "ModelChooser":
        weak, strong = policy.weak or router.weak.name, policy.strong or router.strong.name
        names = {weak.casefold(), strong.casefold()}
        if len(names) < 2 or policy.model.casefold() in names:
            raise ConfigError(
                f"quality: {policy.model!r}, {weak!r} and {strong!r} must be three names",
                hint="weak and strong are models that backends serve, model is one more name",
            )
        point = router.point(policy.quality)
        return cls(alias=policy.model, weak=weak, strong=strong, router=router, point=point)

    def means(self, model: str) -> bool:
        """Whether that name is the alias; names compare without case."""
        return model.casefold() == self.alias.casefold()

    def status(self, statuses: Mapping[str, BackendStatus]) -> BackendStatus:
        """That of the alias: it answers as long as one of its models does."""
        of = {name.casefold(): status for name, status in statuses.items()}
        both = [of.get(name.casefold()) for name in (self.weak, self.strong)]
        if any(one is not None and one.state == "ready" for one in both):
            return BackendStatus(state="ready")
        why = f"neither {self.weak!r} nor {self.strong!r} answers"
        return BackendStatus(state="failed", reason=why)

    def choose(self, request: Completion, objective: Objective) -> ModelChoice:
        """For the objective "quality" the likelier model, whatever it costs; for any other the
        weak one, unless the promise of quality needs the strong one for this request."""
        asked = texts_of_user(request)
        if not asked:
            return self._choice(True, "the request has no text that could be judged", None)
        weak, strong = self.router.chances(asked)
        gains = strong - weak
        hardest = int(np.argmax(gains))
        gain = float(gains[hardest])
        at = 0.0 if objective == "quality" else self.point.threshold
        up = gain >= at
        said = f"{self.strong!r} is likelier to be right by {gain:.3f}"
        if objective == "quality":
            why = f"{said}, and quality is the objective"
        elif not np.isfinite(at):
            only = self.strong if up else self.weak
            why = f"{only!r} alone keeps a quality of {self.point.quality:g}"
        else:
            why = f"{said}; from {at:.3f} on it is asked"
        chances = {
            self.weak: round(float(weak[hardest]), 4),
            self.strong: round(float(strong[hardest]), 4),
        }
        return self._choice(up, why, chances)

    def _choice(self, up: bool, why: str, chances: dict[str, float] | None) -> ModelChoice:
        first, other = (self.strong, self.weak) if up else (self.weak, self.strong)
        return ModelChoice(
            alias=self.alias,
            first=first,
            other=other,
            why=why,
            chances=chances,
            point=self.point,
        )


def texts_of_user(request: Completion) -> list[str]:
    """What the user has said last, or the bare prompt; nothing where not all of it is text."""
    if not is_readable(request):
        return []
    if isinstance(request.prompt, str):
        return [request.prompt] if request.prompt.strip() else []
    said = [message for message in request.messages or () if message.get("role", "user") == "user"]
    texts = [_text(message.get("content")) for message in said[-LATEST:]]
    return [text for text in texts if text.strip()]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content)
    return content if isinstance(content, str) else ""
