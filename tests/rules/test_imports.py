import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORT_SECONDS = 0.15


def contract_layers() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    return next(contract["layers"] for contract in contracts if contract["type"] == "layers")


def packages_in_table(document: str) -> list[str]:
    return re.findall(r"^\| `([a-z]+)` \|", (ROOT / document).read_text(), re.MULTILINE)


def python(code: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return answer.stdout


def test_architecture_lists_the_packages_of_the_import_contract_in_its_order() -> None:
    assert packages_in_table("ARCHITECTURE.md") == contract_layers()


def test_both_readmes_list_the_same_packages() -> None:
    assert packages_in_table("README.md") == contract_layers()
    assert packages_in_table("README.zh-CN.md") == contract_layers()


def test_every_package_is_in_the_contract_and_says_what_it_does_not_know() -> None:
    source = ROOT / "src" / "tokenworks"
    for folder in (path.parent for path in source.glob("*/__init__.py")):
        docstring = (folder / "__init__.py").read_text()

        assert folder.name in contract_layers()
        assert re.search(r"\b[Kk]nows? (nothing|no)|does not know", docstring), folder.name


def test_importing_tokenworks_is_quick_and_brings_nothing_along() -> None:
    fastest = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        python("import tokenworks")
        fastest = min(fastest, time.perf_counter() - start)

    assert fastest <= IMPORT_SECONDS
    assert python("import sys, tokenworks; print('numpy' in sys.modules)").strip() == "False"


def test_the_hub_s_client_is_imported_only_when_the_hub_is_asked() -> None:
    code = "import sys, tokenworks.cli.models, tokenworks.cli.fit; print(*sys.modules)"

    assert "huggingface_hub" not in python(code).split()


def test_the_program_runs_without_torch() -> None:
    code = """
import sys
for name in ("torch", "transformers"):
    sys.modules[name] = None
import tokenworks.cli.up, tokenworks.cli.chat, tokenworks.cli.doctor, tokenworks.cli.models
import tokenworks.inference.worker
print("fine")
"""

    assert python(code).strip() == "fine"
