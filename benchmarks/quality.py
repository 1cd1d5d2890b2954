"""How far from the file's own numbers: KL divergence from the shipped file in f32, of ours and of
llama.cpp's files."""

import tempfile
from pathlib import Path

import llamacpp
import numpy as np
from harness import note
from numpy.typing import NDArray
from parts import Findings, Setup
from rich.table import Table

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.model import load_model
from tokenworks.inference.text.open import open_codec

WINDOW, WINDOWS = 512, 5


def measure(setup: Setup, found: Findings) -> None:
    shipped, q4_0 = setup.path, llamacpp.transcoded(setup.path, "Q4_0")
    quality = divergences(setup, (q4_0, shipped))
    # That of the file whose speed was compared, and that of the very file that we run: another
    # 4-bit format is quantised twice, and what it loses by that is not the engine's doing.
    chosen = found.llamacpp_file or q4_0
    mine, theirs = quality["ours"]["kl"], quality[name_of(chosen)]["kl"]
    found.keys |= {
        "kl_vs_f32": round(mine, 5),
        "kl_vs_f32_llamacpp": round(theirs, 5),
        "kl_vs_f32_llamacpp_same_file": round(quality[name_of(shipped)]["kl"], 5),
        "kl_ratio_vs_llamacpp": round(mine / theirs, 3),
        "weight_bytes_ratio_vs_llamacpp": round(setup.ours.weight_bytes / chosen.stat().st_size, 3),
    }
    found.details["quality"] = {**quality, "text": setup.text.name, "against": name_of(chosen)}
    table = Table("against the file in f32", "KL, nats", "± s.e.", "KL p99", "same top token")
    for name, row in quality.items():
        error = f"{row['kl_standard_error']:.5f}"
        figures = (f"{row['kl_p99']:.4f}", f"{row['same_top_token']:.1%}")
        table.add_row(name, f"{row['kl']:.5f}", error, *figures)
    found.tables.append(table)


def name_of(file: Path) -> str:
    return f"llama.cpp {llamacpp.encoding(file)}"


def divergences(setup: Setup, files: tuple[Path, ...]) -> dict[str, dict[str, float]]:
    model = load_model(setup.path)
    oracle = ReferenceExecutor(model)
    native = NativeExecutor(model, isa="auto", threads=setup.threads, context_length=0)
    for executor in (oracle, native):
        executor.allocate(WINDOW // PAGE_TOKENS)
    # 8 characters a token are more than any English text has.
    passage = setup.text.read_text(encoding="utf-8")[: WINDOW * WINDOWS * 8]
    tokens = open_codec(setup.path).encode(passage)[: WINDOW * WINDOWS]
    peers = {name_of(file): llamacpp.Peer(file, setup.threads) for file in files}
    rows: dict[str, list[NDArray[np.float64]]] = {"ours": [], **{name: [] for name in peers}}
    agree: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in rows}
    with tempfile.TemporaryDirectory() as scratch:
        for at in range(0, len(tokens), WINDOW):
            window = tokens[at : at + WINDOW]
            base = window_logits(oracle, window)
            for name in rows:
                if name == "ours":
                    other = window_logits(native, window)
                else:
                    other = peers[name].logits(window, Path(scratch))
                rows[name].append(divergence(base, other))
                agree[name].append(base.argmax(-1) == other.argmax(-1))
            note(f"quality: {min(at + WINDOW, len(tokens))} of {len(tokens)} tokens")
    return {
        name: {
            "kl": float(np.concatenate(rows[name]).mean()),
            "kl_standard_error": float(np.concatenate(rows[name]).std() / len(tokens) ** 0.5),
            "kl_p99": float(np.quantile(np.concatenate(rows[name]), 0.99)),
            "same_top_token": float(np.concatenate(agree[name]).mean()),
            "tokens": len(tokens),
        }
        for name in rows
    }


def window_logits(executor: Executor, tokens: list[int]) -> NDArray[np.float32]:
    """Next-token logits of a window of text, computed as one prompt."""
    pages = np.arange(-(-len(tokens) // PAGE_TOKENS), dtype=np.int32)
    batch = Batch(
        tokens=np.array(tokens, np.int32),
        spans=(Span(start=0, length=len(tokens), pages=pages),),
        logit_rows=np.arange(len(tokens), dtype=np.int32),
    )
    return executor.forward(batch)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def divergence(base: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(base ‖ other) of each row, in nats."""
    kl = np.empty(len(base))
    for at in range(0, len(base), 64):
        p, q = log_softmax(base[at : at + 64]), log_softmax(other[at : at + 64])
        kl[at : at + 64] = (np.exp(p) * (p - q)).sum(-1)
    return kl
