"""Every instruction-set path against a plain reference and against the others, bit for bit."""

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


def compile_object(source: Path, target: Path, *flags: str) -> Path:
    command = [COMPILER or "g++", "-std=c++20", "-O1", "-ffp-contract=off", "-w", *flags, "-c"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True)
    return target


@pytest.mark.timeout(300)
def test_every_path_computes_the_same(tmp_path: Path) -> None:
    """AVX-512 runs emulated by SIMDe, so that its source is tested on any x86-64 machine."""
    if COMPILER is None:
        pytest.skip("no g++ to build the comparison with")
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
    command = [COMPILER, "-pthread", *map(str, objects), "-o", str(program)]
    subprocess.run(command, check=True)
    run = subprocess.run([program], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout
    assert "checks on" in run.stdout
    if emulated:
        assert "avx512vnni" in run.stdout
