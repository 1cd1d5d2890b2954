"""The C++ on its own: every instruction-set path against a plain reference, against itself in other
tiles, and against the other paths, bit for bit; and the thread team.

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

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
COMPILER = shutil.which("g++")
MACHINE = platform.machine()
ON_X86 = MACHINE == "x86_64"
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma", "-mf16c")
NEON = ("-march=armv8.2-a+dotprod",)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ to build the checks with")


@dataclass(frozen=True)
class Variant:
    """A build of the comparison: `paths` are source files with their flags."""

    paths: dict[str, tuple[str, ...]]
    compiler: str = "g++"
    flags: tuple[str, ...] = ()
    runner: tuple[str, ...] = ()
    needs: str = "g++"


NATIVE_PATHS = {
    "x86_64": {"path_avx2.cpp": AVX2, "path_avx512vnni.cpp": AVX512},
    "aarch64": {"path_neon.cpp": NEON},
}
VARIANTS = {
    "this processor": Variant(NATIVE_PATHS.get(MACHINE, {})),
    "AVX-512 emulated": Variant(
        {"path_avx2.cpp": AVX2, "tests/emulated_avx512.cpp": AVX2},
        flags=("-DTW_EMULATED",),
        needs="/usr/include/simde/x86/avx512.h",
    ),
    "Arm emulated": Variant(
        {"path_neon.cpp": NEON},
        compiler="aarch64-linux-gnu-g++",
        flags=("-static",),
        runner=("qemu-aarch64",),
        needs="qemu-aarch64",
    ),
}
EMULATED = [name for name in VARIANTS if name.endswith("emulated")]


def compile_object(compiler: str, source: Path, target: Path, *flags: str) -> Path:
    command = [compiler, "-std=c++20", "-O1", "-ffp-contract=off", "-w", *flags, "-c"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True)
    return target


def missing(variant: Variant) -> str | None:
    if not ON_X86 and variant.needs != "g++":
        return "emulation is set up for x86-64 machines only"
    needed = (variant.compiler, variant.needs)
    return next((name for name in needed if not (shutil.which(name) or Path(name).exists())), None)


def compare(variant: Variant, folder: Path) -> str:
    """Build and run the comparison; its last line: digest, number of checks, paths."""
    common = {
        "pack.cpp": (),
        "team.cpp": (),
        "path_portable.cpp": (),
        "tests/compare_paths.cpp": (),
    }
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(
                compile_object,
                variant.compiler,
                KERNELS / source,
                folder / f"{Path(source).stem}.o",
                *flags,
                *variant.flags,
            )
            for source, flags in {**common, **variant.paths}.items()
        ]
        objects = [str(job.result()) for job in jobs]
    program = folder / "compare_paths"
    link = [variant.compiler, "-pthread", *variant.flags, *objects, "-o", str(program)]
    subprocess.run(link, check=True)
    done = subprocess.run([*variant.runner, program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each variant said that can be built here."""
    return {
        name: compare(variant, tmp_path_factory.mktemp("variant"))
        for name, variant in VARIANTS.items()
        if missing(variant) is None
    }


@pytest.mark.timeout(300)
def test_every_path_of_this_processor_matches_the_reference(results: dict[str, str]) -> None:
    assert " portable" in results["this processor"]
    assert int(re.findall(r"(\d+) checks on", results["this processor"])[0]) > 100_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EMULATED)
def test_a_path_that_this_processor_lacks_computes_the_same_bits(
    name: str, results: dict[str, str]
) -> None:
    if lack := missing(VARIANTS[name]):
        assert "CI" not in os.environ, f"{lack} is missing: make system-deps installs it"
        pytest.skip(f"{lack} is missing: make system-deps installs it")
    assert {"AVX-512 emulated": "avx512vnni", "Arm emulated": "neon"}[name] in results[name]
    if " avx2 " not in results["this processor"]:
        pytest.skip("this processor has no path with fused multiply-add to compare with")

    assert digest(results[name]) == digest(results["this processor"])


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
