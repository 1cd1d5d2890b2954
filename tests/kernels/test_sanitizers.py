"""The C++ under GCC's sanitizers: no thread meets another's memory unordered, nothing is read or
written beyond its bounds, and nothing is left to the compiler's mood.

`make soak AREA=kernels` watches every path's accesses for races, with up to eight threads; `make
test` the portable path's alone: the others are the same code on other lanes.
"""

import os
import subprocess
from pathlib import Path

import pytest

from kernel_programs import (
    COMPILER,
    FORWARD,
    KERNELS,
    NATIVE_PATHS,
    PROGRAMS,
    WIDE,
    build_programs,
    compile_object,
    said_by,
)
from tokenworks.inference.executors.native import supported_paths

SOAK = os.environ.get("TOKENWORKS_SOAK") == "1"
ROUNDS = 5 if SOAK else 1
RACES = ("-fsanitize=thread",)
BOUNDS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no g++ to build the checks with"),
    pytest.mark.timeout(3600 if SOAK else 300),
]


def quiet(*command: str | Path) -> str:
    """What a program says on standard output. Sanitizers speak on the other, and must not."""
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture(scope="module")
def within_bounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the check programs whose every access and operation is checked."""
    folder = tmp_path_factory.mktemp("bounds")
    programs = (*PROGRAMS, WIDE) if "amx" in supported_paths() else PROGRAMS
    build_programs(folder, NATIVE_PATHS, programs=programs, flags=BOUNDS)
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_path_leaves_its_bounds_or_defined_behaviour(program: str, within_bounds: Path) -> None:
    for threads in (2, 1, 3, 8) if SOAK and program == FORWARD else (2,):
        arguments = [str(threads)] if program == FORWARD else []

        assert " portable" in quiet(within_bounds / program, *arguments)


@pytest.mark.skipif("amx" not in supported_paths(), reason="this processor has no AMX")
def test_wide_products_stay_within_bounds(within_bounds: Path) -> None:
    assert " checks" in quiet(within_bounds / WIDE)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole models whose threads' accesses are watched."""
    folder = tmp_path_factory.mktemp("races")
    plain = None if SOAK else ("-O1",)
    build_programs(folder, NATIVE_PATHS, programs=[FORWARD], flags=RACES, plain_flags=plain)
    return folder / FORWARD


def test_threads_of_a_forward_do_not_race(watched: Path) -> None:
    said = set()
    for _ in range(ROUNDS):
        for threads in range(1, 9) if SOAK else (2, 5):
            paths = [] if SOAK else ["portable"]
            said.add(quiet(watched, str(threads), *paths))

    assert len(said) == 1, said


@pytest.mark.parametrize("flags", [RACES, BOUNDS], ids=["races", "bounds"])
def test_the_team_runs_with_any_number_of_threads(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Barriers hold, only the threads asked for take part, and the crew's policy decides."""
    sources = (KERNELS / "tests" / "check_team.cpp", KERNELS / "team.cpp")
    objects = [
        compile_object("g++", source, tmp_path / f"{source.stem}.o", *flags, "-g")
        for source in sources
    ]
    program = tmp_path / "check_team"
    subprocess.run(["g++", "-pthread", *flags, *objects, "-o", program], check=True)

    for _ in range(ROUNDS):
        assert quiet(program) == "all hold"


def test_a_sanitizer_that_finds_something_fails_the_run(tmp_path: Path) -> None:
    """That the checks above can fail at all."""
    faults = {
        RACES: "int x; int main() { std::thread t([] { x = 1; }); x = 2; t.join(); }",
        BOUNDS: "int main(int n, char**) { std::vector<int> v(4); return v.data()[n + 3] == 7; }",
    }
    for flags, code in faults.items():
        source = tmp_path / "fault.cpp"
        source.write_text(f"#include <thread>\n#include <vector>\n{code}\n")
        program = tmp_path / "fault"
        build = ["g++", "-std=c++20", "-O0", "-pthread", *flags, source, "-o", program]
        subprocess.run(build, check=True)

        with pytest.raises(AssertionError, match="Sanitizer"):
            said_by(program)
