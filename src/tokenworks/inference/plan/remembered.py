"""Plans that were made, in the state folder: one file for each model, machine and way to run."""

import hashlib
from pathlib import Path

import msgspec

from tokenworks import __version__
from tokenworks.inference.models.panel_format import FORMATS_VERSION
from tokenworks.inference.plan.decision import GATE, LEAST_GAIN
from tokenworks.inference.plan.plan import Plan
from tokenworks.store.files import write_atomic


def plan_name(*, model: str, machine: str, isa: str, threads: int) -> str:
    """The name of a plan's file. It changes with all that a plan depends on, so that none is ever
    read for something else: `model` and `machine` are words that tell them from all others."""
    ours = (__version__, FORMATS_VERSION, GATE.most_kl, GATE.least_agreement, LEAST_GAIN)
    said = (model, machine, isa, threads, *ours)
    return f"{hashlib.sha256(repr(said).encode()).hexdigest()[:24]}.json"


def read_plan(place: Path) -> Plan | None:
    """None if there is none, or it is damaged."""
    try:
        return msgspec.json.decode(place.read_bytes(), type=Plan)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def write_plan(place: Path, plan: Plan) -> None:
    """Raises OSError."""
    write_atomic(place, msgspec.json.format(msgspec.json.encode(plan)))
