"""Builds the C++ check programs of `kernels/tests` on their own, for tests of the kernels."""

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KERNELS = Path(__file__).parents[1] / "kernels"
COMPILER = shutil.which("g++")
MACHINE = platform.machine()
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma", "-mf16c")
ARM_PATHS = {
    "path_neon.cpp": ("-march=armv8.2-a+dotprod",),
    "path_neon_i8mm.cpp": ("-march=armv8.2-a+dotprod+i8mm",),
}
NATIVE_PATHS: Mapping[str, tuple[str, ...]] = {
    "x86_64": {
        "path_avx2.cpp": AVX2,
        **dict.fromkeys(("path_avx512vnni.cpp", "product_amx.cpp", "wide.cpp"), AVX512),
    },
    "aarch64": ARM_PATHS,
}.get(MACHINE, {})
"""The sources of this processor's paths with their flags, the portable one apart."""
COMPARE, ATTENTION, FORWARD = "compare_paths", "compare_attention", "whole_forward"
PROGRAMS = (COMPARE, ATTENTION, FORWARD)
WIDE = "compare_wide"  # where there is AMX
PLAIN = (
    *(
        "transformer.cpp",
        "attend.cpp",
        "weights.cpp",
        "pack.cpp",
        "decode.cpp",
        "arena.cpp",
        "team.cpp",
    ),
    "path_portable.cpp",
)


def compile_object(compiler: str, source: Path, target: Path, *flags: str) -> Path:
    command = [compiler, "-std=c++20", "-O1", "-ffp-contract=off", "-w", *flags, "-c"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True)
    return target


def build_programs(
    folder: Path,
    paths: Mapping[str, tuple[str, ...]],
    *,
    programs: Sequence[str] = PROGRAMS,
    compiler: str = "g++",
    flags: Sequence[str] = (),
    plain_flags: Sequence[str] | None = None,
) -> None:
    """Build check programs in `folder`, with these paths' sources and their flags.

    `flags` are for all that is compiled and linked; if `plain_flags` are given, paths other than
    the portable one are compiled with those instead.
    """
    names = [f"tests/{name}.cpp" for name in programs]
    for_paths = flags if plain_flags is None else plain_flags
    sources = {
        **dict.fromkeys([*PLAIN, *names], tuple(flags)),
        **{source: (*own, *for_paths) for source, own in paths.items()},
    }
    with ThreadPoolExecutor(2) as pool:
        jobs = {
            source: pool.submit(
                *(compile_object, compiler, KERNELS / source, folder / f"{Path(source).stem}.o"),
                *with_flags,
            )
            for source, with_flags in sources.items()
        }
        objects = {source: str(job.result()) for source, job in jobs.items()}
    for name in names:
        parts = [objects[name], *(objects[one] for one in sources if one not in names)]
        link = [compiler, "-pthread", *flags, *parts]
        subprocess.run([*link, "-o", str(folder / Path(name).stem)], check=True)


def said_by(*command: str | Path) -> str:
    """The last words of a check program: digest, number of checks, paths."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
