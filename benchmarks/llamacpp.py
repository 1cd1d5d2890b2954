"""The peer: llama.cpp, built natively from the sources inside llama-cpp-python's sdist."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import PEERS

VERSION = "0.3.36"
SOURCE = PEERS / f"llama_cpp_python-{VERSION}"
LLAMA_CPP = SOURCE / "vendor" / "llama.cpp"
BIN = LLAMA_CPP / "build" / "bin"
AVX2_BIN = LLAMA_CPP / "build-avx2" / "bin"
VENV_PYTHON = PEERS / "venv" / "bin" / "python"
TOOLS = ("llama-bench", "llama-batched-bench", "llama-quantize")
NATIVE = ("-DGGML_NATIVE=ON",)
TILES = LLAMA_CPP / "ggml" / "src" / "ggml-cpu" / "amx" / "mmq.cpp"
LOAD_TILES = "    _tile_loadconfig(&tc);\n"
KEEP_STORES = '    asm volatile("" : : "r"(&tc) : "memory");\n'
AVX2 = (
    "-DGGML_NATIVE=OFF",
    *(f"-DGGML_{extension}=ON" for extension in ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")),
)
BUILD_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)


def install() -> None:
    """Fetch and build into `.peers` (about 6 minutes on 2 cores); nothing if it is there."""
    PEERS.mkdir(exist_ok=True)
    if not VENV_PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS / "venv"], check=True)
        packages = ("cmake", "ninja", "numpy", "typing-extensions", "diskcache", "jinja2")
        subprocess.run([VENV_PYTHON, "-m", "pip", "install", "-q", *packages], check=True)
        needs = ("install", "-q", "scikit-build-core[pyproject]")
        subprocess.run([VENV_PYTHON, "-m", "pip", *needs], check=True)
    unpack("llama_cpp_python", VERSION)
    mend_tiles()
    build(LLAMA_CPP, BIN, (*NATIVE, *BUILD_OPTIONS), TOOLS)


def mend_tiles() -> None:
    """GCC 12.2, among others, drops the stores of a tile configuration, and the first
    product on tiles ends in an illegal instruction (llama.cpp's pull request 26954)."""
    text = TILES.read_text()
    if KEEP_STORES not in text:
        assert LOAD_TILES in text, "the peer's sources are not those this was written for"
        TILES.write_text(text.replace(LOAD_TILES, KEEP_STORES + LOAD_TILES))
        (BIN / TOOLS[0]).unlink(missing_ok=True)  # so that it is built again


def unpack(package: str, version: str) -> None:
    """An sdist of the package index, unpacked into `.peers`."""
    folder = PEERS / f"{package}-{version}"
    if folder.exists():
        return
    sdist = ("download", "-q", "--no-deps", "--no-binary", ":all:", "--no-build-isolation")
    wanted = f"{package}=={version}"
    subprocess.run([VENV_PYTHON, "-m", "pip", *sdist, "-d", PEERS, wanted], check=True)
    archive = PEERS / f"{package}-{version}.tar.gz"
    shutil.unpack_archive(archive, PEERS, filter="data")
    archive.unlink()


def install_avx2() -> None:
    """The same without AVX-512, whatever this machine has."""
    install()
    build(LLAMA_CPP, AVX2_BIN, (*AVX2, *BUILD_OPTIONS), ("llama-bench",))


def build(source: Path, binaries: Path, options: Sequence[str], tools: Sequence[str]) -> None:
    """Configure and compile with CMake, unless the tools are there."""
    if all((binaries / tool).exists() for tool in tools):
        return
    path = f"{VENV_PYTHON.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    folder = binaries.parent
    configure = ["cmake", "-S", source, "-B", folder, "-G", "Ninja", *options]
    subprocess.run(configure, check=True, env=environment)
    compile = ["cmake", "--build", folder, "--target", *tools]
    subprocess.run(compile, check=True, env=environment)


def installed() -> bool:
    return all((BIN / tool).exists() for tool in TOOLS) and VENV_PYTHON.exists()


def installed_avx2() -> bool:
    return installed() and (AVX2_BIN / "llama-bench").exists()


@dataclass(frozen=True, slots=True)
class Peer:
    """llama.cpp on one model file."""

    model: Path
    threads: int
    binaries: Path = BIN
    flash: bool = False

    @property
    def name(self) -> str:
        flash = ", flash attention" if self.flash else ""
        return f"llama.cpp {encoding(self.model)}{flash}"

    def decode_tps(self, tokens: int, context: int = 0) -> float:
        return self._bench("-p", "0", "-n", str(tokens), "-d", str(context))

    def prefill_tps(self, tokens: int) -> float:
        at_once = str(max(tokens, 512))
        return self._bench("-p", str(tokens), "-n", "0", "-ub", at_once, "-b", at_once)

    def batch_tps(self, sequences: int, prompt: int, tokens: int) -> float:
        """Output tokens per second of all sequences together."""
        lengths = ("-npp", str(prompt), "-ntg", str(tokens), "-npl", str(sequences))
        threads = ("-t", str(self.threads), "-tb", str(self.threads))
        tool = self.binaries / "llama-batched-bench"
        command = [tool, "-m", self.model, "-c", "8192", "-fa", self._flash, *lengths, *threads]
        lines = run([*command, "--output-format", "jsonl"]).splitlines()
        return float(json.loads([line for line in lines if line.startswith("{")][-1])["speed_tg"])

    def buffers(self) -> list[str]:
        """Where it put the weights, in its own words: whether it uses AMX, or repacked them."""
        tool, what = self.binaries / "llama-bench", ("-p", "0", "-n", "1", "-r", "1", "-v")
        printed = run(["sh", "-c", '"$@" 2>&1', "sh", tool, "-m", self.model, *what])
        return re.findall(r"load_tensors: +(\S.* model buffer size = +\S+ MiB)", printed)

    @property
    def _flash(self) -> str:
        return "on" if self.flash else "off"

    def _bench(self, *what: str) -> float:
        threads = ("-t", str(self.threads), "-fa", self._flash)
        command = [self.binaries / "llama-bench", "-m", self.model, *threads]
        lines = run([*command, "-r", "1", "-o", "jsonl", *what]).splitlines()
        return float(json.loads(lines[-1])["avg_ts"])

    def logits(self, tokens: list[int], scratch: Path) -> np.ndarray:
        """Next-token logits [tokens, vocabulary] of one window, by the library's own API."""
        target = scratch / "peer-logits.npy"
        script = Path(__file__).with_name("llamacpp_logits.py")
        environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "LLAMA_CPP_LIB_PATH": str(BIN),
        }
        subprocess.run(
            [VENV_PYTHON, script, self.model, target, str(self.threads)],
            input=json.dumps(tokens),
            text=True,
            check=True,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        return np.load(target, mmap_mode="r")


def encoding(model: Path) -> str:
    """What a file's name says of its encoding; else as it was shipped."""
    return model.suffixes[-2].lstrip(".") if len(model.suffixes) > 1 else "as shipped"


def transcoded(model: Path, encoding: str) -> Path:
    """The model in another of llama.cpp's formats, made by its own tool, kept in `.peers`."""
    target = PEERS / f"{model.stem}.{encoding}.gguf"
    if not target.exists():
        run([BIN / "llama-quantize", "--allow-requantize", model, target, encoding])
    return target


def run(command: Sequence[object]) -> str:
    """What a tool prints. Exits with its last words if it fails."""
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=PEERS)  # some leave logs
    if done.returncode:
        sys.exit(f"error: {command[0]} failed\n{done.stderr[-2000:]}")
    return done.stdout
