"""The text that a compression learns from and the text that it is judged by, in windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokenworks.errors import ModelError
from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.quality import Window, windows_of

_WINDOW: Final = 256
_MOST_WINDOWS: Final = 64
_JUDGED_EVERY: Final = 4
_LEAST_WINDOWS: Final = 2
_WEIGHED_WINDOWS: Final = 2


@dataclass(frozen=True, slots=True)
class Material:
    """Windows of one length, whole pages. None of `judged` is learnt from."""

    learning: Sequence[Window]
    judged: Sequence[Window]

    @property
    def weighed(self) -> Sequence[Window]:
        """What is enough to compare parts by."""
        return self.judged[:_WEIGHED_WINDOWS]

    @property
    def computed_tokens(self) -> int:
        """Tokens that one pass computes: each with the source's weights too."""
        return 2 * sum(map(len, (*self.learning, *self.judged)))


def material_of(tokens: Sequence[int], config: ModelConfig) -> Material:
    """A text cut up: every fourth window is judged by, the others are learnt from; at most the
    first 16,384 tokens.

    Raises ModelError for a text that is too short.
    """
    longest = min(_WINDOW, config.context_length)
    length = min(longest, len(tokens) // _LEAST_WINDOWS) // PAGE_TOKENS * PAGE_TOKENS
    if not length:
        raise ModelError(
            f"The text is {len(tokens)} tokens long, too short to learn from",
            hint=f"give a longer one with --text: {_JUDGED_EVERY * _WINDOW} tokens or more",
        )
    windows = windows_of(tokens, length)[:_MOST_WINDOWS]
    judged = windows[1::_JUDGED_EVERY]
    learning = [window for at, window in enumerate(windows) if at % _JUDGED_EVERY != 1]
    return Material(learning, judged)
