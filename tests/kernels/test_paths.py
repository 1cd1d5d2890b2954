"""The C++ on its own: every instruction-set path against a plain reference and the others, bit for
bit, and the thread team."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
X86 = os.uname().machine == "x86_64"
SIMDE = Path("/usr/include/simde/x86/avx512.h")
COMPILER = shutil.which("g++")


def build(program: Path, objects: list[Path], *flags: str) -> None:
    command = [COMPILER or "g++", "-pthread", *flags, *map(str, objects), "-o", str(program)]
    subprocess.run(command, check=True)


def compile_object(source: Path, target: Path, *flags: str) -> Path:
    command = [COMPILER or "g++", "-std=c++20", "-O1", "-ffp-contract=off", "-w", *flags, "-c"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True)
    return target


pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ to build the checks with")


@pytest.mark.timeout(300)
def test_every_path_computes_the_same(tmp_path: Path) -> None:
    """AVX-512 runs emulated by SIMDe, so that its source is tested on any x86-64 machine."""
    avx2 = ("-mavx2", "-mfma", "-mf16c")
    sources: list[tuple[Path, tuple[str, ...]]] = [
        (KERNELS / "pack.cpp", ()),
        (KERNELS / "team.cpp", ()),
        (KERNELS / "path_portable.cpp", ()),
    ]
    emulated = X86 and SIMDE.exists()
    if X86:
        sources.append((KERNELS / "path_avx2.cpp", avx2))
        if emulated:
            sources.append((KERNELS / "tests" / "emulated_avx512.cpp", avx2))
        else:
            assert "CI" not in os.environ, "SIMDe is missing: make system-deps installs it"
            flags = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni")
            sources.append((KERNELS / "path_avx512vnni.cpp", (*flags, "-mfma", "-mf16c")))
    main_flags = ("-DTW_EMULATED",) if emulated else ()
    sources.append((KERNELS / "tests" / "compare_paths.cpp", main_flags))

    with ThreadPoolExecutor(2) as pool:
        objects = list(
            pool.map(
                lambda job: compile_object(job[0], tmp_path / f"{job[0].stem}.o", *job[1]), sources
            )
        )
    program = tmp_path / "compare_paths"
    build(program, objects)
    run = subprocess.run([program], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout
    assert "checks on" in run.stdout
    if emulated:
        assert "avx512vnni" in run.stdout


@pytest.mark.parametrize("sanitizer", ["undefined", "thread"])
def test_the_team_runs_with_any_number_of_threads(tmp_path: Path, sanitizer: str) -> None:
    """Barriers hold, only the threads asked for take part, and the crew's policy decides."""
    flags = (f"-fsanitize={sanitizer}", "-g")
    sources = (KERNELS / "tests" / "check_team.cpp", KERNELS / "team.cpp")
    objects = [compile_object(source, tmp_path / f"{source.stem}.o", *flags) for source in sources]
    program = tmp_path / "check_team"
    build(program, objects, f"-fsanitize={sanitizer}")
    run = subprocess.run([program], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == "all hold\n"
    assert run.stderr == ""
