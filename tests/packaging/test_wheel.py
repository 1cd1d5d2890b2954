"""What people install: built as `make wheel` does, put in a clean environment, and served from."""

import json
import shutil
import tarfile
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

import tokenworks
from factory_process import served_by
from wheels import BUILD_SECONDS, PINS, ROOT, build, run

CORE_BYTES = 200 * 10**6
pytestmark = pytest.mark.timeout(BUILD_SECONDS)  # whichever test comes first waits for the build


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
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
        PIP_CONSTRAINT=PINS,
        PATH=str(place / "bin"),
    )
    return place


def test_the_wheel_holds_the_program_its_pages_and_its_licence(
    distributions: tuple[Path, Path],
) -> None:
    names = set(zipfile.ZipFile(distributions[1]).namelist())

    assert "tokenworks/cli/__init__.py" in names
    assert "tokenworks/server/pages/index.html" in names
    assert "tokenworks/cli/tokenworks.service" in names
    assert "tokenworks/inference/texts/calibration.txt" in names
    assert "tokenworks/py.typed" in names
    assert any(name.startswith("tokenworks/inference/_kernels.") for name in names)
    assert not any(name.startswith(("tests/", "kernels/", "packaging/")) for name in names)


def test_the_wheel_carries_the_licences_of_all_that_is_compiled_in(
    distributions: tuple[Path, Path],
) -> None:
    wheel = zipfile.ZipFile(distributions[1])
    texts = {
        name.partition("licenses/")[2]: wheel.read(name).decode()
        for name in wheel.namelist()
        if ".dist-info/licenses/" in name
    }
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))

    assert (
        "License-Expression: Apache-2.0 AND BSD-3-Clause AND MIT" in wheel.read(metadata).decode()
    )
    assert texts["LICENSE"].strip().startswith("Apache License")
    assert "Wenzel Jakob" in texts["LICENSES/nanobind.txt"]
    assert "Goetghebuer-Planchon" in texts["LICENSES/robin-map.txt"]
    for name in texts.keys() - {"NOTICE"}:
        assert name in texts["NOTICE"], f"NOTICE does not say what {name} is for"


def test_the_sdist_holds_what_a_build_needs(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE", "NOTICE"} <= names
    assert {"LICENSES/nanobind.txt", "LICENSES/robin-map.txt"} <= names
    assert "packaging/check_wheel.py" in names
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


def test_the_installed_wheel_passes_the_check_that_releases_are_put_to(installed: Path) -> None:
    said = run(installed / "bin/python", ROOT / "packaging/check_wheel.py")

    assert said.splitlines()[0].endswith("deviations")
    assert said.splitlines()[-1] == f"tokenworks {tokenworks.__version__} computes"


def test_the_installed_wheel_prints_a_service_for_itself(installed: Path) -> None:
    said = run(installed / "bin/tokenworks", "service")

    assert f"ExecStart={installed}/bin/tokenworks up" in said.splitlines()


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
