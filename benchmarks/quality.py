"""How far from the file's own numbers: KL divergence from the shipped file in f32, of ours and of
llama.cpp's files."""

import tempfile
from pathlib import Path

import msgspec
from harness import note
from parts import Findings, Setup
from rich.table import Table

import llamacpp
from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import load_model
from tokenworks.inference.quality import Comparison, window_logits
from tokenworks.inference.text.open import open_codec

WINDOW, WINDOWS = 512, 5
OURS: dict[str, KvFormat] = {"ours": "bf16", "ours, int8 KV": "int8"}


def measure(setup: Setup, found: Findings) -> None:
    shipped, q4_0 = setup.path, llamacpp.transcoded(setup.path, "Q4_0")
    quality = divergences(setup, (q4_0, shipped))
    # That of the file whose speed was compared, and that of the very file that we run: another
    # 4-bit format is quantised twice, and what it loses by that is not the engine's doing.
    chosen = found.llamacpp_file or q4_0
    mine, theirs = quality["ours"]["kl"], quality[name_of(chosen)]["kl"]
    found.keys |= {
        "kl_vs_f32": round(mine, 5),
        "kl_vs_f32_kv_int8": round(quality["ours, int8 KV"]["kl"], 5),
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
    ours = {
        name: NativeExecutor(
            model,
            isa="auto",
            threads=setup.threads,
            context_length=0,
            rounding=setup.plan.rounding,
            kv_format=kv_format,
        )
        for name, kv_format in OURS.items()
    }
    for executor in (oracle, *ours.values()):
        executor.allocate(WINDOW // PAGE_TOKENS)
    # 8 characters a token are more than any English text has.
    passage = setup.text.read_text(encoding="utf-8")[: WINDOW * WINDOWS * 8]
    tokens = open_codec(setup.path).encode(passage)[: WINDOW * WINDOWS]
    peers = {name_of(file): llamacpp.Peer(file, setup.threads) for file in files}
    compared = {name: Comparison() for name in (*ours, *peers)}
    with tempfile.TemporaryDirectory() as scratch:
        for at in range(0, len(tokens), WINDOW):
            window = tokens[at : at + WINDOW]
            base = window_logits(oracle, window)
            for name, executor in ours.items():
                compared[name].add(base, window_logits(executor, window))
            for name, peer in peers.items():
                compared[name].add(base, peer.logits(window, Path(scratch)))
            note(f"quality: {min(at + WINDOW, len(tokens))} of {len(tokens)} tokens")
    return {name: msgspec.structs.asdict(one.quality()) for name, one in compared.items()}
