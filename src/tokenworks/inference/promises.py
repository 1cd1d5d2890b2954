"""What is promised to those who come: refused early if it cannot be kept, and ended once it is
broken. Reads the batcher; changes nothing.
"""

from collections.abc import Iterable, Iterator

from tokenworks.inference.admission import Limits, queue_full, too_late
from tokenworks.inference.batcher import Batcher
from tokenworks.inference.forecast import AnswerLengths, Backlog, first_token_s, place_s
from tokenworks.inference.messages import Failed, Generate, Refused
from tokenworks.inference.pages import PageTable, pages_for
from tokenworks.inference.queueing import due, turn
from tokenworks.inference.sequence import Sequence


def begun(request: Generate) -> bool:
    """Whether a part of what is asked for was delivered before."""
    return request.begun or bool(request.generated)


class Promises:
    """Knows how long answers became."""

    def __init__(self, batcher: Batcher, limits: Limits) -> None:
        self._batcher = batcher
        self._limits = limits
        self._lengths = AnswerLengths()

    def ended(self, sequence: Sequence) -> None:
        """An answer came to its end."""
        self._lengths.record(sequence.generated)

    def refusal(self, request: Generate, now: float) -> Refused | None:
        """Why a request that nobody has begun is refused at this load, or None."""
        batcher, tenant = self._batcher, request.tenant
        answers = 1 + len(request.siblings)
        own = batcher.shares.asking[tenant]
        tenants = len(batcher.shares.asking) + (own == 0)
        if self._limits.full(len(batcher) + answers, own + answers, tenants):
            backlog = self._backlog(())
            return queue_full(
                request, self._limits, place_s(backlog, batcher.budget(), self._lengths.mean)
            )
        rows = len(request.prompt)
        if request.deadline_s is not None:  # whoever is in a hurry is worth a look into the pages
            table = PageTable(batcher.pool, pages_for(rows), tenant, request.public_tokens)
            rows -= table.match(request.prompt).tokens
        deadline = None if request.deadline_s is None else now + request.deadline_s
        prompt_s = batcher.prompt_s(len(request.prompt) - rows, rows)
        key = turn(due(now, request.priority), prompt_s, deadline)
        backlog = self._backlog(self._before(tenant, key), key)
        wait_s = first_token_s(backlog, rows, batcher.budget(), self._lengths.mean)
        return too_late(request, self._limits, wait_s)

    def broken(self, sequences: Iterable[Sequence], now: float) -> list[Failed]:
        """Those whose first token cannot come before its deadline any more.

        Of one that waits, nobody knows yet how much of its prompt is in place already.
        """
        failed = []
        for sequence in sequences:
            if sequence.deadline is None or sequence.generated:
                continue
            least_s = 0.0
            if sequence.runs:
                least_s = self._batcher.prompt_s(sequence.computed, sequence.pending)
            if now + least_s > sequence.deadline:
                late = f"the first token cannot come in time: {now - sequence.arrived:.1f} s of "
                given = f"{sequence.deadline - sequence.arrived:g} s are gone"
                failed.append(
                    Failed(request_id=sequence.request_id, message=late + given, reason="deadline")
                )
        return failed

    def _before(self, tenant: str, key: float) -> Iterator[Sequence]:
        """Who waits and goes before a request of this tenant with this key: of its own line those
        with smaller ones; of each other line as many and one, for tenants take turns."""
        waiting = self._batcher.waiting
        own = [each for turn, _, each in waiting.line(tenant) if turn <= key]
        yield from own
        for other in waiting.tenants:
            if other != tenant:
                for _, _, each in waiting.line(other)[: len(own) + 1]:
                    yield each

    def _backlog(self, before: Iterable[Sequence], key: float = 0.0) -> Backlog:
        batcher = self._batcher
        decoding = [each for each in batcher.running if each.pending == 1]
        ahead = list(before)
        begun = sum(each.pending for each in batcher.running if each.pending > 1)
        return Backlog(
            places=batcher.max_sequences,
            running=len(batcher.running),
            decoding=len(decoding),
            attended=sum(len(each.tokens) for each in decoding),
            ahead=len(ahead),
            prompt_rows=begun + sum(each.pending for each in ahead),
        )
