"""What a request costs: each attempt what its backend takes, said or estimated."""

import pytest
from msgspec import json

from tokenworks.accounts.prices import price_of
from tokenworks.gateway.backend import Usage
from tokenworks.gateway.failover import Tried
from tokenworks.gateway.labels import Label
from tokenworks.gateway.placed import Placed
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.gateway.settling import BYTES_A_TOKEN, Ended, settlement_of, taken_by
from tokenworks.gateway.timing import Timing
from tokenworks.telemetry.clock import ManualClock
from tokenworks.telemetry.metrics import Metrics

PRICE = price_of(input="1.00", output="2.00")  # micro-dollars a token
BOUND = 30
SAID = Usage(prompt_tokens=7, completion_tokens=4)


def placed(name: str) -> Placed:
    return Placed(name=name, backend=ScriptedBackend(), pricing=lambda model, at: PRICE)


PLACED = {name: placed(name) for name in ("one", "two")}


def ended() -> Ended:
    return Ended(
        request_id="r", model="m", label=Label.PUBLIC, status="answered", prompt_bound=BOUND, at=0.0
    )


def timing() -> Timing:
    return Timing(Metrics().for_model("m"), ManualClock())


def test_who_was_overtaken_costs_its_prompt_and_is_marked_as_an_estimate() -> None:
    tried = [Tried("one", overtaken=True, tokens=1), Tried("two", usage=SAID)]
    taken = taken_by(ended(), tried, PLACED)
    settled = settlement_of(ended(), taken, PLACED, timing())

    # The prompt as the other one counted it, and the one token that came before it was cancelled.
    assert settled.costs == (("one", 7 + 2), ("two", 7 + 2 * 4))
    assert (settled.backend, settled.attempts) == ("two", 2)
    assert (settled.prompt_tokens, settled.completion_tokens) == (14, 5)
    assert json.decode(settled.route) == [
        {"backend": "one", "overtaken": True, "money": 9, "estimated": True},
        {"backend": "two", "money": 15},
    ]


def test_what_failed_before_it_said_anything_costs_nothing() -> None:
    taken = taken_by(ended(), [Tried("one", error="no route"), Tried("two", usage=SAID)], PLACED)

    assert settlement_of(ended(), taken, PLACED, timing()).costs == (("two", 15),)
    assert taken[0].described() == {"backend": "one", "error": "no route"}


@pytest.mark.parametrize(
    ("counted", "prompt"), [(None, BOUND // BYTES_A_TOKEN), (0, BOUND // BYTES_A_TOKEN), (99, 30)]
)
def test_an_estimate_stays_within_what_was_reserved(counted: int | None, prompt: int) -> None:
    """A backend that counts more tokens than the prompt has bytes is not believed of another."""
    usage = None if counted is None else Usage(prompt_tokens=counted, completion_tokens=0)
    tried = [Tried("one", overtaken=True), Tried("two", usage=usage)]

    assert taken_by(ended(), tried, PLACED)[0].money == prompt
