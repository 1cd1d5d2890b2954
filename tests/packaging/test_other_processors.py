"""Wheels for processors that are not this one, as far as they can be made here."""

import os
import platform
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from wheels import BUILD_SECONDS, ROOT, build, run

COMPILER = "aarch64-linux-gnu-g++"
ELF_MACHINE = slice(18, 20)
AARCH64 = (183).to_bytes(2, "little")

pytestmark = pytest.mark.timeout(BUILD_SECONDS)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles from x86-64 to Arm")
def test_the_whole_extension_compiles_for_arm(tmp_path: Path) -> None:
    if shutil.which(COMPILER) is None:
        assert "CI" not in os.environ, f"{COMPILER} is missing: make system-deps installs it"
        pytest.skip(f"{COMPILER} is missing: make system-deps installs it")
    build(
        tmp_path,
        *("--wheel", "-C", f"build-dir={tmp_path / 'build'}"),
        CMAKE_ARGS="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 "
        f"-DCMAKE_CXX_COMPILER={COMPILER}",
        _PYTHON_HOST_PLATFORM="linux-aarch64",
    )
    (made,) = tmp_path.glob("*-linux_aarch64.whl")
    wheel = zipfile.ZipFile(made)
    (name,) = (name for name in wheel.namelist() if "/_kernels." in name and name.endswith(".so"))
    extension = wheel.read(name)

    assert extension[ELF_MACHINE] == AARCH64
    for path in (b"neon-i8mm", b"neon", b"portable"):
        assert path + b"\0" in extension
    assert b"avx2\0" not in extension


@pytest.mark.parametrize(
    ("system", "processors", "wheels"),
    [
        ("linux", "x86_64,aarch64", {"manylinux_x86_64", "manylinux_aarch64"}),
        ("macos", "arm64", {"macosx_arm64"}),
    ],
)
def test_a_release_has_a_wheel_for_each_system(
    system: str, processors: str, wheels: set[str]
) -> None:
    program = pytest.importorskip("cibuildwheel", reason="comes with the test extra").__name__
    listing = run(
        *(sys.executable, "-m", program, "--print-build-identifiers"),
        *("--platform", system, "--archs", processors, ROOT),
    )

    assert set(listing.split()) == {f"{p}-{wheel}" for p in ("cp311", "cp312") for wheel in wheels}
