"""The C++ on its own: every instruction-set path against a plain reference, against itself in other
tiles, and against the other paths, bit for bit; and a whole model on each.

Paths that this processor lacks run emulated: AVX-512 by SIMDe, Arm by QEMU.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from kernel_programs import (
    ARM_PATHS,
    ATTENTION,
    AVX2,
    COMPARE,
    COMPILER,
    FORWARD,
    KERNELS,
    MACHINE,
    NATIVE_PATHS,
    PROGRAMS,
    WIDE,
    build_programs,
    compile_object,
    said_by,
)
from tokenworks.inference.executors.native import supported_paths
from tokenworks.inference.settings import IsaName

ON_X86 = MACHINE == "x86_64"

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ to build the checks with")


@dataclass(frozen=True)
class Variant:
    """A build of the check programs: `paths` are source files with their flags."""

    paths: Mapping[str, tuple[str, ...]]
    compiler: str = "g++"
    flags: tuple[str, ...] = ()
    runner: tuple[str, ...] = ()
    needs: str = "g++"


NATIVE, AVX512_EMULATED, ARM_EMULATED = "this processor", "AVX-512 emulated", "Arm emulated"
VARIANTS = {
    NATIVE: Variant(NATIVE_PATHS),
    AVX512_EMULATED: Variant(
        {"path_avx2.cpp": AVX2, "tests/emulated_avx512.cpp": AVX2},
        flags=("-DTW_EMULATED",),
        needs="/usr/include/simde/x86/avx512.h",
    ),
    ARM_EMULATED: Variant(
        ARM_PATHS,
        compiler="aarch64-linux-gnu-g++",
        flags=("-static",),
        runner=("qemu-aarch64",),
        needs="qemu-aarch64",
    ),
}
CHOSEN_ON_ARM = {  # by processor: its paths, best first
    "max": "neon-i8mm neon portable",
    "cortex-a76": "neon portable",  # dot products, no matrix products
    "cortex-a72": "portable",
    "cortex-a53": "portable",
}


def missing(variant: Variant) -> str | None:
    if not ON_X86 and variant.needs != "g++":
        return "emulation is set up for x86-64 machines only"
    needed = (variant.compiler, variant.needs)
    return next((name for name in needed if not (shutil.which(name) or Path(name).exists())), None)


def skip_if_missing(name: str) -> None:
    if lack := missing(VARIANTS[name]):
        assert "CI" not in os.environ, f"{lack} is missing: make system-deps installs it"
        pytest.skip(f"{lack} is missing: make system-deps installs it")


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder with the programs of each variant that can be built here."""
    folders = {}
    for name, variant in VARIANTS.items():
        if missing(variant) is None:
            folders[name] = tmp_path_factory.mktemp("variant")
            build_programs(
                folders[name], variant.paths, compiler=variant.compiler, flags=variant.flags
            )
    return folders


@pytest.fixture(scope="module")
def results(builds: dict[str, Path]) -> dict[tuple[str, str], str]:
    """What each program of each variant said."""
    return {
        (name, program): said_by(*VARIANTS[name].runner, folder / program)
        for name, folder in builds.items()
        for program in PROGRAMS
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", [COMPARE, ATTENTION])
def test_every_path_of_this_processor_matches_the_reference(
    program: str, results: dict[tuple[str, str], str]
) -> None:
    said = results[NATIVE, program]

    assert said.endswith(" portable")
    assert int(re.findall(r"(\d+) checks on", said)[0]) > 100_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("threads", [1, 3, 5])
def test_results_do_not_depend_on_the_number_of_threads(
    threads: int, builds: dict[str, Path], results: dict[tuple[str, str], str]
) -> None:
    assert said_by(builds[NATIVE] / FORWARD, str(threads)) == results[NATIVE, FORWARD]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "program", "paths"),
    [
        (AVX512_EMULATED, COMPARE, {"avx2", "avx512vnni"}),
        (AVX512_EMULATED, ATTENTION, {"avx2", "avx512vnni"}),
        (ARM_EMULATED, COMPARE, {"neon", "neon-i8mm"}),
        (ARM_EMULATED, ATTENTION, {"neon", "neon-i8mm"}),
        (ARM_EMULATED, FORWARD, {"neon", "neon-i8mm"}),
    ],
)
def test_a_path_that_this_processor_lacks_computes_the_same_bits(
    name: str, program: str, paths: set[str], results: dict[tuple[str, str], str]
) -> None:
    skip_if_missing(name)
    said, here = results[name, program], results[NATIVE, program]

    assert paths <= set(said.split())
    if " avx2 " not in here:
        pytest.skip("this processor has no path with fused multiply-add to compare with")
    assert digest(said) == digest(here)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("processor", CHOSEN_ON_ARM)
def test_an_arm_processor_is_given_the_paths_it_can_run(
    processor: str, builds: dict[str, Path]
) -> None:
    """A whole model runs there, so that an instruction it lacks would end the program."""
    skip_if_missing(ARM_EMULATED)
    said = said_by("qemu-aarch64", "-cpu", processor, builds[ARM_EMULATED] / FORWARD)

    assert said.partition(" numbers on ")[2] == CHOSEN_ON_ARM[processor]


def test_every_path_can_be_asked_for_by_its_name() -> None:
    table = re.compile(r"const Kernels k\w+Kernels = \{\s*\"([^\"]+)\"")
    named = {
        name for path in KERNELS.glob("path_*.cpp") for name in table.findall(path.read_text())
    }

    assert named == set(get_args(IsaName)) - {"auto"}


def digest(said: str) -> str:
    return re.findall(r"digest ([0-9a-f]{16}),", said)[0]


def test_attention_is_planned_without_what_is_masked(tmp_path: Path) -> None:
    """Every query meets each chunk of tokens that it sees exactly once, others in no task."""
    program = tmp_path / "check_plan"
    source = compile_object("g++", KERNELS / "tests" / "check_plan.cpp", tmp_path / "check_plan.o")
    subprocess.run(["g++", str(source), "-o", str(program)], check=True)
    run = subprocess.run([program], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == "all hold\n"


@pytest.mark.skipif("amx" not in supported_paths(), reason="this processor has no AMX")
@pytest.mark.timeout(300)
def test_wide_products_are_those_of_plain_integers(tmp_path: Path) -> None:
    """By vectors and by tiles, bit for bit, and near to the weights that they were made of."""
    build_programs(tmp_path, NATIVE_PATHS, programs=(WIDE,))
    said = said_by(tmp_path / WIDE)

    assert int(re.findall(r"(\d+) checks", said)[0]) > 10_000
