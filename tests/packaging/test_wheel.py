"""What people install: built as `make wheel` does, put in a clean environment, and served from."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from factory_process import served_by

ROOT = Path(__file__).resolve().parents[2]
CORE_BYTES = 200 * 10**6
BUILD_SECONDS = 400
pytestmark = pytest.mark.timeout(BUILD_SECONDS)  # whichever test comes first waits for the build


def run(*command: str | Path, **environment: str) -> str:
    answer = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        env={**os.environ, **environment},
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return answer.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    pins = str(ROOT / "constraints.txt")
    run(
        *(sys.executable, "-m", "build", "--outdir", folder, ROOT),
        PIP_CONSTRAINT=pins,
        PIP_BUILD_CONSTRAINT=pins,
    )
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel in it, installed with no compiler to be found."""
    place = tmp_path_factory.mktemp("clean") / "environment"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    run(
        *(python, "-m", "pip", "install", "--no-compile", "--only-binary=:all:", distributions[1]),
        PIP_CONSTRAINT=str(ROOT / "constraints.txt"),
        PATH=str(place / "bin"),
    )
    return place


def test_the_wheel_holds_the_program_its_pages_and_its_licence(
    distributions: tuple[Path, Path],
) -> None:
    names = set(zipfile.ZipFile(distributions[1]).namelist())

    assert "tokenworks/cli/__init__.py" in names
    assert "tokenworks/server/pages/index.html" in names
    assert "tokenworks/py.typed" in names
    assert any(name.startswith("tokenworks/inference/_kernels.") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "kernels/")) for name in names)


def test_the_sdist_holds_what_a_build_needs(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE", "NOTICE"} <= names
    assert any(name.startswith("kernels/") for name in names)
    assert not any(name.startswith((".venv", "build/")) for name in names)


def test_a_core_install_is_small_and_has_no_torch(installed: Path) -> None:
    listed = json.loads(run(installed / "bin/python", "-m", "pip", "list", "--format=json"))
    names = {package["name"].lower() for package in listed}
    size = sum(
        path.stat().st_size
        for path in (installed / "lib").rglob("*")
        if path.is_file() and not path.is_symlink()
    )

    assert "tokenworks" in names
    assert "torch" not in names
    assert size <= CORE_BYTES, f"{size / 10**6:.0f} MB"


def test_the_installed_wheel_serves_with_its_kernels_and_no_compiler(
    installed: Path, tiny_model: Path, tmp_path: Path
) -> None:
    program = [str(installed / "bin" / "tokenworks")]
    assert shutil.which("c++", path=str(installed / "bin")) is None

    with served_by(
        program, tmp_path, "--model", str(tiny_model), PATH=str(installed / "bin")
    ) as address:
        with urllib.request.urlopen(f"{address}/health", timeout=30) as response:
            health = json.load(response)
        body = json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 4}).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/v1/completions", body, kind)
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)

    assert health["models"]["tiny"]["executor"].startswith("native")
    assert answer["usage"]["completion_tokens"] >= 1
