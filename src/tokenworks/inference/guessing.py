"""Adds to a batch the drafts that are worth their rows. Knows nothing of how tokens are guessed."""

from dataclasses import replace

from tokenworks.inference.batcher import Batcher
from tokenworks.inference.forward import size_of
from tokenworks.inference.sequence import Chunk, Sequence
from tokenworks.inference.settings import SpeculationName
from tokenworks.inference.speculation.draft_model import DraftModel
from tokenworks.inference.speculation.speculator import open_speculator


class Guessing:
    """Guesses for a batcher's sequences. `guessed` and `right` count tokens that were verified."""

    def __init__(
        self, batcher: Batcher, setting: SpeculationName, model: DraftModel | None
    ) -> None:
        self.guessed = self.right = 0
        self._batcher = batcher
        self._model = model
        self._speculator = open_speculator(setting, model)

    def drafted(self, chunks: list[Chunk]) -> tuple[list[Chunk], float]:
        """The batch with drafts, and the seconds that a draft model took for them."""
        decoding = [chunk.sequence for chunk in chunks if chunk.decodes]
        if self._speculator is None or not decoding:
            return chunks, 0.0
        rows, context = size_of(chunks)
        cost = self._batcher.cost

        def seconds(rows_then: int) -> float:
            return cost.seconds(rows_then, context * rows_then // rows)

        most = self._batcher.max_batch_tokens - rows
        while most and seconds(rows + most) > self._batcher.stall_s:
            most //= 2
        drafts = iter(self._speculator.drafts(decoding, rows, most, seconds))
        drafted = [
            self._with_draft(chunk, next(drafts)) if chunk.decodes else chunk for chunk in chunks
        ]
        return drafted, self._speculator.guessing_s

    def ended(self, sequence: Sequence) -> None:
        """An answer is complete: later ones may say the same."""
        if self._speculator is not None:
            self._speculator.remember(sequence.tenant, sequence.tokens[sequence.prompt_length :])

    def check_integrity(self) -> None:
        if self._model is not None:
            self._model.check_integrity()

    def _with_draft(self, chunk: Chunk, draft: list[int]) -> Chunk:
        """The chunk with as much of a draft as there are pages for: each that runs is left one to
        grow into, or a guess would make somebody give way."""
        if not draft:
            return chunk
        sequence, spare = chunk.sequence, len(self._batcher.running)
        room = sequence.table.room(len(sequence.tokens), len(draft), spare=spare)
        return replace(chunk, draft=tuple(draft[:room]))
