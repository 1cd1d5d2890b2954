from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.accounts.prices import FREE, price_of
from tokenworks.errors import BackendError, LabelError, ModelNotFound
from tokenworks.gateway.labels import Label
from tokenworks.gateway.ranking import (
    TIERS,
    Features,
    Objective,
    RoutingSettings,
    View,
    rank,
)
from tokenworks.gateway.upstream.health import BackendState

DEAR = price_of(input="10", output="20", cached=None)
OBJECTIVES = get_args(Objective)
ASKED = Features(
    model="m", label=Label.PRIVATE, masked=Label.PRIVATE, prompt_tokens=100, max_tokens=10
)


def state(**more: object) -> BackendState:
    known: dict[str, object] = {
        "name": "b",
        "tier": "site",
        "phase": "closed",
        "available": True,
        "reason": "",
        "in_flight": 0,
        "most_in_flight": 8,
        "share": 1.0,
        "error_rate": 0.0,
        "first_token_s": None,
        "inter_token_s": None,
        "age_s": None,
        "retry_after_s": None,
        "draining": False,
    }
    return BackendState(**{**known, **more})  # type: ignore[arg-type]


def view(name: str, **more: object) -> View:
    known: dict[str, object] = {
        "name": name,
        "tier": "site",
        "clearance": Label.SECRET,
        "serves": True,
        "abilities": frozenset(),
        "length": 0,
        "region": "",
        "price": FREE,
        "answer_tokens": 100,
        "energy_j_per_token": None,
        "state": state(),
    }
    return View(**{**known, **more})  # type: ignore[arg-type]


VIEWS = st.lists(
    st.builds(
        lambda number, tier, clearance, price, up, joules, first_s: view(
            f"b{number}",
            tier=tier,
            clearance=clearance,
            price=price,
            energy_j_per_token=joules,
            state=state(available=up, first_token_s=first_s),
        ),
        st.integers(0, 999),
        st.sampled_from(TIERS),
        st.sampled_from(Label),
        st.sampled_from([FREE, DEAR, None]),
        st.booleans(),
        st.none() | st.floats(0, 10),
        st.none() | st.floats(0, 10),
    ),
    max_size=8,
    unique_by=lambda one: one.name,
)


@given(VIEWS, st.sampled_from(Label), st.sampled_from(Label), st.sampled_from(OBJECTIVES))
def test_no_objective_outweighs_a_label(
    views: list[View], label: Label, masked: Label, objective: Objective
) -> None:
    asked = replace(ASKED, label=max(label, masked), masked=min(label, masked))
    route = rank(asked, views, RoutingSettings(objective=objective))

    by_name = {one.name: one for one in views}
    for one in route.ranked:
        assert by_name[one.name].clearance >= asked.masked
        assert one.masked == (by_name[one.name].clearance < asked.label)
        assert by_name[one.name].state.available
    assert len(route.ranked) + len(route.ruled_out) == len(views)


@given(VIEWS, st.randoms(), st.sampled_from(OBJECTIVES))
def test_the_order_of_backends_changes_nothing(
    views: list[View], draw: object, objective: Objective
) -> None:
    settings = RoutingSettings(objective=objective)
    mixed = list(views)
    draw.shuffle(mixed)  # type: ignore[attr-defined]

    assert rank(ASKED, views, settings) == rank(ASKED, mixed, settings)


@pytest.mark.parametrize(
    ("objective", "best"),
    [("near", "near"), ("cost", "free"), ("first_token", "quick"), ("energy", "frugal")],
)
def test_an_objective_puts_its_best_first(objective: Objective, best: str) -> None:
    views = [
        view("near", tier="device", price=DEAR, state=state(first_token_s=2.0)),
        view("free", tier="cloud", state=state(first_token_s=3.0)),
        view("quick", tier="cloud", price=DEAR, state=state(first_token_s=0.1)),
        view("frugal", tier="cloud", price=DEAR, energy_j_per_token=0.1),
    ]

    assert rank(ASKED, views, RoutingSettings(objective=objective)).ranked[0].name == best


def test_for_quality_whoever_sees_the_data_as_it_is_answers_first() -> None:
    asked = replace(ASKED, masked=Label.PUBLIC)
    views = [
        view("near", tier="device", clearance=Label.PUBLIC),
        view("far", tier="cloud", price=DEAR),
    ]

    assert rank(asked, views, RoutingSettings(objective="quality")).ranked[0].name == "far"
    assert rank(asked, views, RoutingSettings(objective="near")).ranked[0].name == "near"


def test_a_refusal_says_what_is_in_the_way() -> None:
    settings = RoutingSettings()
    blind, down = view("blind", clearance=Label.PUBLIC), view("down", state=state(available=False))

    assert isinstance(rank(ASKED, [], settings).refusal(), ModelNotFound)
    assert isinstance(rank(ASKED, [blind], settings).refusal(), LabelError)
    assert isinstance(rank(ASKED, [blind, down], settings).refusal(), BackendError)
