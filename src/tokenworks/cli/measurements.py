"""What this machine was measured to do, remembered in the state folder until something changes."""

import hashlib
import os
from pathlib import Path

import msgspec

from tokenworks import __version__
from tokenworks.cli.console import aside
from tokenworks.config import Config
from tokenworks.fleet.discover.machine import Machine
from tokenworks.fleet.discover.measure import Limits, measure_limits
from tokenworks.inference.prediction import Calibration
from tokenworks.store.files import write_atomic

_BUSY = 0.5  # a load above this share of the cores disturbs what is measured


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the machine and, where the native kernels load, what they reach. `load` is the
    number of programs that wanted a core in the minute before."""

    version: str
    load: float
    limits: Limits
    kernels: Calibration | None


def measurements(config: Config, machine: Machine, *, again: bool = False) -> Measurements:
    """Those of this machine: read back, or taken now (a few seconds) and kept."""
    place = config.home.measurements / f"{fingerprint(config, machine)}.json"
    known = None if again else _read(place)
    if known is None:
        aside.print("measuring this machine for a few seconds", style="dim")
        known = _measure(config, machine)
        write_atomic(place, msgspec.json.format(msgspec.json.encode(known)))
    return known


def fingerprint(config: Config, machine: Machine) -> str:
    """A name for this machine with these settings: what it measures is another's nowhere else."""
    processors = msgspec.json.encode(machine.processors)
    engine = config.engine
    said = (processors, machine.memory.total, engine.isa, engine.threads, engine.kv_format)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def busy(found: Measurements, machine: Machine) -> bool:
    """Whether other programs ran while it was measured."""
    return found.load > _BUSY * machine.processors.usable_cores


def last_level_bytes(machine: Machine) -> int:
    """Bytes of all caches of the last level."""
    caches = machine.processors.caches
    level = max((cache.level for cache in caches), default=0)
    return sum(cache.bytes * cache.count for cache in caches if cache.level == level)


def _read(place: Path) -> Measurements | None:
    try:
        known = msgspec.json.decode(place.read_bytes(), type=Measurements)
    except (OSError, ValueError):  # none yet, or torn
        return None
    return known if known.version == __version__ else None


def _measure(config: Config, machine: Machine) -> Measurements:
    load = os.getloadavg()[0]
    limits = measure_limits(
        threads=machine.processors.usable_cores,
        cache_bytes=last_level_bytes(machine),
        memory_bytes=machine.memory.usable,
    )
    kernels = _calibrate(config, machine)
    return Measurements(version=__version__, load=load, limits=limits, kernels=kernels)


def _calibrate(config: Config, machine: Machine) -> Calibration | None:
    try:
        from tokenworks.inference.calibration import calibrate
        from tokenworks.inference.executors.native import choose_path
    except ImportError:  # no kernels here: the numpy executor would serve
        return None
    return calibrate(
        isa=choose_path(config.engine.isa),
        threads=config.engine.threads or machine.processors.usable_cores,
        kv_format=config.engine.kv_format,
        cache_bytes=last_level_bytes(machine),
    )
