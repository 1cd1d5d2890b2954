"""What the batcher orders: the tokens of one request, and the piece that one forward computes."""

from dataclasses import dataclass

from tokenworks.inference.messages import Sampling
from tokenworks.inference.pages import PageTable
from tokenworks.inference.queueing import due
from tokenworks.inference.speculation.drafting import Drafting
from tokenworks.inference.steering import Steering


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """The tokens of one request. `tokens` are known, the first `computed` have their KV in place.

    `resumed_at`: how many tokens of the answer came with the request. `cached`: prompt tokens whose
    KV was found rather than computed when the sequence first ran; None before. `leader`: whose
    prompt is this one's too; until that is scored, this one waits. `scored`: how many of the
    prompt's rows have given the score of the token after them; None if nobody asks.
    `arrived` and `deadline` (of the first token) are seconds on the engine's clock. The batcher
    sets `runs`, `number` (in order of arrival) and `turn` (its key while it waits). `drafting`
    guesses the tokens to come, once any guess was worth making.
    """

    request_id: str
    tenant: str = ""
    prompt_length: int
    resumed_at: int = 0
    tokens: list[int]
    sampling: Sampling
    table: PageTable
    computed: int = 0
    cached: int | None = None
    steering: Steering | None = None
    leader: "Sequence | None" = None
    scored: int | None = None
    priority: int = 0
    arrived: float = 0.0
    deadline: float | None = None
    runs: bool = False
    number: int = 0
    turn: float = 0.0
    drafting: Drafting | None = None

    @property
    def scoring(self) -> bool:
        """Whether rows of the prompt are still to be computed for their scores."""
        return self.scored is not None and self.scored < self.prompt_length - 1

    @property
    def awaits_leader(self) -> bool:
        """Whether its leader has to be scored and does not run either, as after giving way."""
        leader = self.leader
        return leader is not None and leader.scoring and not leader.runs

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    @property
    def allowed(self) -> int:
        """Tokens that the answer may still take."""
        return self.sampling.max_tokens - self.generated

    @property
    def due(self) -> float:
        return due(self.arrived, self.priority)

    @property
    def rank(self) -> tuple[float, int]:
        """Who has the largest gives way first."""
        return self.due, self.number


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `length` tokens of `sequence` from its `computed` one on, and those of `draft` after
    them, which may turn out not to be what comes next."""

    sequence: Sequence
    length: int
    draft: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return self.length + len(self.draft)

    @property
    def decodes(self) -> bool:
        """Whether one token is computed, to know the next."""
        return self.length == 1 and self.completes

    @property
    def completes(self) -> bool:
        """Whether the chunk ends at the last known token, so that the next can be sampled."""
        return self.length == self.sequence.pending

    @property
    def scored_rows(self) -> range:
        """The numbers of the tokens whose rows give scores; their logits are asked for."""
        sequence = self.sequence
        if sequence.scored is None:
            return range(0)
        end = min(sequence.computed + self.length, sequence.prompt_length - 1)
        return range(max(sequence.computed, sequence.scored), end)
