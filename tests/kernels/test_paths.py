"""The C++ on its own: every instruction-set path against a plain reference, against itself in other
tiles, and against the other paths, bit for bit; a whole model on each; and the thread team.

Paths that this processor lacks run emulated: AVX-512 by SIMDe, Arm by QEMU.
"""

import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from tokenworks.inference.settings import IsaName

KERNELS = Path(__file__).parents[2] / "kernels"
COMPILER = shutil.which("g++")
MACHINE = platform.machine()
ON_X86 = MACHINE == "x86_64"
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma", "-mf16c")
ARM_PATHS = {
    "path_neon.cpp": ("-march=armv8.2-a+dotprod",),
    "path_neon_i8mm.cpp": ("-march=armv8.2-a+dotprod+i8mm",),
}
COMPARE, ATTENTION, FORWARD = "compare_paths", "compare_attention", "whole_forward"
PROGRAMS = (COMPARE, ATTENTION, FORWARD)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ to build the checks with")


@dataclass(frozen=True)
class Variant:
    """A build of the check programs: `paths` are source files with their flags."""

    paths: dict[str, tuple[str, ...]]
    compiler: str = "g++"
    flags: tuple[str, ...] = ()
    runner: tuple[str, ...] = ()
    needs: str = "g++"


NATIVE_PATHS = {
    "x86_64": {
        "path_avx2.cpp": AVX2,
        "path_avx512vnni.cpp": AVX512,
        "product_amx.cpp": AVX512,
    },
    "aarch64": ARM_PATHS,
}
NATIVE, AVX512_EMULATED, ARM_EMULATED = "this processor", "AVX-512 emulated", "Arm emulated"
VARIANTS = {
    NATIVE: Variant(NATIVE_PATHS.get(MACHINE, {})),
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


def compile_object(compiler: str, source: Path, target: Path, *flags: str) -> Path:
    command = [compiler, "-std=c++20", "-O1", "-ffp-contract=off", "-w", *flags, "-c"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True)
    return target


def missing(variant: Variant) -> str | None:
    if not ON_X86 and variant.needs != "g++":
        return "emulation is set up for x86-64 machines only"
    needed = (variant.compiler, variant.needs)
    return next((name for name in needed if not (shutil.which(name) or Path(name).exists())), None)


def skip_if_missing(name: str) -> None:
    if lack := missing(VARIANTS[name]):
        assert "CI" not in os.environ, f"{lack} is missing: make system-deps installs it"
        pytest.skip(f"{lack} is missing: make system-deps installs it")


def build(variant: Variant, folder: Path) -> None:
    """Build the check programs in `folder`."""
    plain = [
        "transformer.cpp",
        "attend.cpp",
        "weights.cpp",
        "pack.cpp",
        "decode.cpp",
        "arena.cpp",
        "team.cpp",
        "path_portable.cpp",
    ]
    programs = [f"tests/{name}.cpp" for name in PROGRAMS]
    sources = {**dict.fromkeys([*plain, *programs], ()), **variant.paths}
    with ThreadPoolExecutor(2) as pool:
        jobs = {
            source: pool.submit(
                compile_object,
                variant.compiler,
                KERNELS / source,
                folder / f"{Path(source).stem}.o",
                *flags,
                *variant.flags,
            )
            for source, flags in sources.items()
        }
        objects = {source: job.result() for source, job in jobs.items()}
    for program in programs:
        parts = [objects[program], *(objects[one] for one in sources if one not in programs)]
        link = [variant.compiler, "-pthread", *variant.flags, *map(str, parts)]
        subprocess.run([*link, "-o", str(folder / Path(program).stem)], check=True)


def said_by(*command: str | Path) -> str:
    """The last words of a check program: digest, number of checks, paths."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder with the programs of each variant that can be built here."""
    folders = {}
    for name, variant in VARIANTS.items():
        if missing(variant) is None:
            folders[name] = tmp_path_factory.mktemp("variant")
            build(variant, folders[name])
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


@pytest.mark.parametrize("sanitizer", ["undefined", "thread"])
def test_the_team_runs_with_any_number_of_threads(tmp_path: Path, sanitizer: str) -> None:
    """Barriers hold, only the threads asked for take part, and the crew's policy decides."""
    flags = (f"-fsanitize={sanitizer}", "-g")
    sources = (KERNELS / "tests" / "check_team.cpp", KERNELS / "team.cpp")
    objects = [
        str(compile_object("g++", source, tmp_path / f"{source.stem}.o", *flags))
        for source in sources
    ]
    program = tmp_path / "check_team"
    subprocess.run(["g++", "-pthread", *flags, *objects, "-o", str(program)], check=True)
    run = subprocess.run([program], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == "all hold\n"
    assert run.stderr == ""


def test_attention_is_planned_without_what_is_masked(tmp_path: Path) -> None:
    """Every query meets each chunk of tokens that it sees exactly once, others in no task."""
    program = tmp_path / "check_plan"
    source = compile_object("g++", KERNELS / "tests" / "check_plan.cpp", tmp_path / "check_plan.o")
    subprocess.run(["g++", str(source), "-o", str(program)], check=True)
    run = subprocess.run([program], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == "all hold\n"
