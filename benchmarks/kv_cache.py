"""Keys and values in int8 against those in bf16: how near answers stay, what they take, how fast an
answer goes on behind a long prompt."""

import msgspec
from engine_runs import Ours
from harness import in_turn, note, summary
from parts import Findings, Setup
from rich.table import Table

from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import load_model
from tokenworks.inference.quality import Quality, compare, pages_of, windows_of
from tokenworks.inference.text.open import open_codec

WINDOW, TOKENS = 2048, 8192
CONTEXT, ANSWER, ROUNDS = 4096, 48, 3


def measure(setup: Setup, found: Findings) -> None:
    bf16, int8 = opened(setup, "bf16"), opened(setup, "int8")
    ratio = int8.page_bytes / bf16.page_bytes
    quality = divergence(setup, bf16, int8)
    note(f"int8 keys and values: {quality.kl:.5f} nats over {quality.tokens} tokens")
    coded, plain = (
        Ours(setup.path, setup.threads, rounding=setup.plan.rounding, kv_format=kv_format)
        for kv_format in ("int8", "bf16")
    )
    pairs = in_turn(
        min(setup.rounds, ROUNDS),
        lambda: coded.decode_tps(ANSWER, CONTEXT),
        lambda: plain.decode_tps(ANSWER, CONTEXT),
    )
    speed = summary(pairs.ratios)
    found.keys |= {
        "kv_int8_kl": round(quality.kl, 5),
        "kv_int8_bytes_ratio": round(ratio, 3),
        "kv_int8_decode_ratio_4k": round(speed["median"], 3),
    }
    found.details["kv_int8"] = {
        "quality": msgspec.structs.asdict(quality),
        "text": setup.text.name,
        "window": WINDOW,
        "decode_tps_4k": pairs.record(),
    }
    columns = ("KL, nats", "± s.e.", "KL p99", "same top token", "bytes", f"speed at {CONTEXT}")
    table = Table("keys and values", *columns)
    error, top = f"{quality.kl_standard_error:.5f}", f"{quality.same_top_token:.1%}"
    figures = (f"{quality.kl:.5f}", error, f"{quality.kl_p99:.4f}", top, f"{ratio:.3f}")
    table.add_row("int8 against bf16", *figures, f"{speed['median']:.3f}")
    found.tables.append(table)


def opened(setup: Setup, kv_format: KvFormat) -> NativeExecutor:
    return NativeExecutor(
        load_model(setup.path),
        isa="auto",
        threads=setup.threads,
        context_length=0,
        rounding=setup.plan.rounding,
        kv_format=kv_format,
    )


def divergence(setup: Setup, base: NativeExecutor, other: NativeExecutor) -> Quality:
    # 8 characters a token are more than any English text has.
    passage = setup.text.read_text(encoding="utf-8")[: TOKENS * 8]
    windows = windows_of(open_codec(setup.path).encode(passage)[:TOKENS], WINDOW)
    for executor in (base, other):
        executor.allocate(pages_of(windows[0]))
    return compare(base, other, windows)
