"""The peer: ik_llama.cpp, built natively from the sources inside ik-llama-cpp-python's sdist."""

import json
from dataclasses import dataclass
from pathlib import Path

from harness import PEERS

import llamacpp

VERSION = "0.1.5"
SOURCE = PEERS / f"ik_llama_cpp_python-{VERSION}" / "vendor" / "ik_llama.cpp"
BIN = SOURCE / "build" / "bin"
TOOLS = ("llama-bench", "llama-batched-bench")
BUILD_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
)
# The sdist leaves this file out; without it nothing builds.
BUILD_INFO = """\
set(BUILD_NUMBER 0)
set(BUILD_COMMIT sdist)
set(BUILD_COMPILER unknown)
set(BUILD_TARGET unknown)
set(here ${CMAKE_CURRENT_LIST_DIR}/..)
configure_file(${here}/build-info.cpp.in ${here}/build-info.cpp)
"""


def install() -> None:
    """Fetch and build into `.peers` (about 12 minutes on 2 cores); nothing if it is there."""
    llamacpp.install()
    llamacpp.unpack("ik_llama_cpp_python", VERSION)
    script = SOURCE / "common" / "cmake" / "build-info-gen-cpp.cmake"
    script.parent.mkdir(exist_ok=True)
    script.write_text(BUILD_INFO)
    llamacpp.build(SOURCE, BIN, BUILD_OPTIONS, TOOLS)


def installed() -> bool:
    return all((BIN / tool).exists() for tool in TOOLS)


@dataclass(frozen=True, slots=True)
class Peer:
    """ik_llama.cpp on one model file, its weights repacked when it loads (`-rtr`) or not. Merged
    products of queries, keys and values (`-mqkv`) and huge pages (`-thp`) made no difference."""

    model: Path
    threads: int
    repack: bool
    flash: bool = True

    @property
    def name(self) -> str:
        repacked = ", repacked" if self.repack else ""
        plain = "" if self.flash else ", no flash attention"
        return f"ik_llama.cpp {llamacpp.encoding(self.model)}{repacked}{plain}"

    def decode_tps(self, tokens: int, context: int = 0) -> float:
        if context:
            return self._bench("-p", "0", "-n", "0", "-gp", f"{context},{tokens}")
        return self._bench("-p", "0", "-n", str(tokens))

    def prefill_tps(self, tokens: int) -> float:
        at_once = str(max(tokens, 512))
        return self._bench("-p", str(tokens), "-n", "0", "-ub", at_once, "-b", at_once)

    def batch_tps(self, sequences: int, prompt: int, tokens: int) -> float:
        """Output tokens per second of all sequences together. Without flash attention: with it
        several sequences end in a failed assertion of the peer (iqk_fa_templates.h, S > 0)."""
        lengths = ("-npp", str(prompt), "-ntg", str(tokens), "-npl", str(sequences))
        threads = ("-t", str(self.threads), "-tb", str(self.threads), "-fa", "off")
        repack = ("-rtr",) if self.repack else ()
        tool = BIN / "llama-batched-bench"
        command = [tool, "-m", self.model, "-c", "8192", *lengths, *threads, *repack]
        printed = llamacpp.run(["sh", "-c", '"$@" 2>&1', "sh", *command])  # the table is on stderr
        rows = [line.split("|") for line in printed.splitlines() if line.startswith("|")]
        headings = [heading.strip() for heading in rows[0]]
        return float(rows[-1][headings.index("S_TG t/s")])

    def _bench(self, *what: str) -> float:
        ways = ("-rtr", str(int(self.repack)), "-fa", str(int(self.flash)))
        command = [BIN / "llama-bench", "-m", self.model, "-t", str(self.threads), *ways]
        printed = llamacpp.run([*command, "-r", "1", "-o", "json", *what])
        return float(json.loads(printed[printed.index("[") :])[0]["avg_ts"])
