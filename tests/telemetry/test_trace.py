import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.telemetry.trace import MOST_STATE, TraceContext, accepted, begun, state_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
WELL_FORMED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")


def test_a_child_belongs_to_the_same_trace_and_has_a_span_of_its_own() -> None:
    ours = accepted([PARENT], ["rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE"], recording=False)
    assert ours is not None
    children = [ours.child() for _ in range(100)]

    assert (ours.trace_id, ours.parent_id, ours.sampled) == (TRACE, SPAN, True)
    assert ours.state == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert {child.trace_id for child in children} == {TRACE}
    assert {child.parent_id for child in children} == {ours.span_id}
    assert len({ours.span_id, SPAN, *(child.span_id for child in children)}) == 102
    assert all(WELL_FORMED.fullmatch(child.traceparent) for child in children)


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "00",
        PARENT[:-1],
        PARENT + "-more",
        PARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-zz",
        f"00-{TRACE[:-1]}é-{SPAN}-01",
        f"{PARENT}\r\nx-injected: 1",
        f"01-{TRACE}-{SPAN}-01.what-is-after-it-must-follow-a-hyphen",
    ],
)
def test_a_malformed_parent_begins_another_trace(malformed: str) -> None:
    ours = accepted([malformed], ["rojo=1"], recording=False)

    assert ours is not None
    assert ours.trace_id != TRACE
    assert (ours.parent_id, ours.state, ours.sampled) == ("", "", False)


def test_two_parents_are_as_good_as_none() -> None:
    ours = accepted([PARENT, PARENT], [], recording=True)

    assert ours is not None
    assert ours.trace_id != TRACE
    assert ours.sampled


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    ours = accepted([f"cc-{TRACE}-{SPAN}-ff-what-is-new"], [], recording=False)

    assert ours is not None
    assert ours.trace_id == TRACE
    assert WELL_FORMED.fullmatch(ours.traceparent)
    assert ours.flags == 3


def test_nobody_traces_what_nobody_asked_for_unless_we_record() -> None:
    assert accepted([], ["rojo=1"], recording=False) is None
    ours = accepted([], ["rojo=1"], recording=True)
    assert ours is not None
    assert ours.sampled
    assert ours.state == ""


@given(st.lists(st.text(max_size=80), max_size=3), st.lists(st.text(max_size=80), max_size=3))
def test_whatever_comes_in_only_what_is_well_formed_goes_out(
    parents: list[str], states: list[str]
) -> None:
    ours = accepted(parents, states, recording=True)

    assert ours is not None
    assert WELL_FORMED.fullmatch(ours.child().traceparent)
    assert ours.state.isascii()
    assert ours.state.isprintable()


@pytest.mark.parametrize(
    ("states", "passed_on"),
    [
        (["a=1,b=2"], "a=1,b=2"),
        ([" a=1 ,\t b=2 ,,"], "a=1,b=2"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["0tenant@system=x"], "0tenant@system=x"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a=1,b"], ""),
        (["a==1"], ""),
        (["a=1\r\nx: 1"], ""),
        ([",".join(f"k{number}=v" for number in range(33))], ""),
    ],
)
def test_a_state_is_passed_on_whole_or_not_at_all(states: list[str], passed_on: str) -> None:
    assert state_of(states) == passed_on


def test_a_long_state_loses_its_oldest_members() -> None:
    members = [f"k{number}={'v' * 90}" for number in range(10)]
    state = state_of([",".join(members)])

    assert len(state) <= MOST_STATE
    assert state == ",".join(members[:5])


def test_ids_are_never_zero() -> None:
    none = begun(sampled=True, draw=lambda bits: 0)

    assert WELL_FORMED.fullmatch(none.traceparent)
    assert isinstance(none, TraceContext)
