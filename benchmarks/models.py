"""Models: families against transformers, forecasts, loading, and the AVX2 path against llama.cpp's.

make peers AREA=models     # once: builds llama.cpp, native and for AVX2
make bench AREA=models
"""

import argparse
import sys
from pathlib import Path
from typing import TypeVar

import exactness
import fitting
import loading
import refusals
from engine_runs import Ours
from exactness import Exactness
from fitting import Forecast
from harness import Pairs, finish, in_turn, summary, wait_until_idle
from loading import Loaded
from rich.console import Console
from rich.table import Table

import llamacpp
from tokenworks.config import load
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.tensors import TensorType

DECODE = 64
LOADED = (
    *(TensorType.Q4_0, TensorType.Q4_1, TensorType.Q8_0),
    *(TensorType.Q2_K, TensorType.Q3_K, TensorType.Q4_K, TensorType.Q5_K, TensorType.Q6_K),
    *(TensorType.IQ4_XS, TensorType.F16, TensorType.BF16, TensorType.F32),
)
console = Console()
Result = TypeVar("Result")


def measure_exactness() -> dict[str, Exactness]:
    return {family: note(family, exactness.measure(family)) for family in exactness.FAMILIES}


def measure_forecasts(path: Path, threads: int) -> list[Forecast]:
    wait_until_idle()
    calibrated = fitting.calibration(threads)
    found = [note("forecast", fitting.measure_file(path, threads, calibrated))]
    for model, type in fitting.PAIRS:
        found.append(note("forecast", fitting.measure(model, type, threads, calibrated)))
    return found


def measure_loading(megabytes: int, rounds: int, threads: int) -> dict[str, Loaded]:
    return {
        type.name: note("loading", loading.measure(type, megabytes, rounds, threads))
        for type in LOADED
    }


def measure_avx2(path: Path, threads: int, rounds: int) -> Pairs:
    """Decode, both sides without AVX-512, the peer on the faster of two files."""
    ours = Ours(path, threads, isa="avx2")
    files = (path, llamacpp.transcoded(path, "Q4_0"))
    peers = [
        llamacpp.Peer(file, threads, llamacpp.AVX2_BIN, flash=flash)
        for file in files
        for flash in (False, True)
    ]
    ours.decode_tps(DECODE)
    wait_until_idle()
    best = max(peers, key=lambda peer: peer.decode_tps(DECODE))
    return in_turn(rounds, lambda: ours.decode_tps(DECODE), lambda: best.decode_tps(DECODE))


def note(about: str, result: Result) -> Result:
    print(about, result, file=sys.stderr, flush=True)
    return result


def show(
    exact: dict[str, Exactness],
    forecasts: list[Forecast],
    loads: dict[str, Loaded],
    avx2: Pairs,
) -> None:
    formats = list(dict.fromkeys(name for row in exact.values() for name in row.formats))
    table = Table(
        "family",
        "float32: largest error",
        *formats,
        title="kernels' relative error by weights",
    )
    for family, row in exact.items():
        errors = (f"{row.formats[name]:.3f}" if name in row.formats else "" for name in formats)
        table.add_row(family, f"{row.worst:.1e}", *errors)
    console.print(table)
    table = Table("model", "format", "predicted", "measured", "error", title="time of a token, ms")
    for forecast in forecasts:
        times = (f"{1e3 * forecast.predicted_s:.2f}", f"{1e3 * forecast.measured_s:.2f}")
        table.add_row(forecast.model, forecast.format, *times, f"{forecast.error:.0%}")
    console.print(table)
    table = Table("format", "s / GB", "peak / final memory", title="loading, file in page cache")
    for name, loaded in loads.items():
        table.add_row(name, f"{loaded.seconds_per_gb:.2f}", f"{loaded.peak_over_final:.2f}")
    console.print(table)
    ours, theirs, ratio = (summary(v) for v in (avx2.ours, avx2.theirs, avx2.ratios))
    spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
    print(f"AVX2 decode: {ours['median']:.0f} and {theirs['median']:.0f} tokens/s: {spread}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Models, formats and processors.")
    parser.add_argument("--install-peers", action="store_true", help="build the peer and stop")
    parser.add_argument("--model", default=None, help="name or GGUF file (the default model)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--load-mb", type=int, default=600, help="size of the files to load")
    options = parser.parse_args()
    if options.install_peers:
        return llamacpp.install_avx2()
    if not llamacpp.installed_avx2():
        sys.exit("error: llama.cpp is not built\n\nhint: make peers AREA=models")
    config = load({"model": options.model} if options.model else {})
    path = Library(config.home).path(config.model)
    refused = refusals.measure()
    forecasts = measure_forecasts(path, options.threads)
    avx2 = measure_avx2(path, options.threads, options.rounds)
    loads = measure_loading(options.load_mb, 3, options.threads)
    exact = measure_exactness()
    show(exact, forecasts, loads, avx2)
    for problem, line in refused.items():
        print(f"{problem}: {line}")
    keys = {
        "architectures_exact": float(sum(row.exact for row in exact.values())),
        "fit_prediction_error": round(summary([f.error for f in forecasts])["median"], 3),
        "fit_prediction_error_max": round(max(f.error for f in forecasts), 3),
        "fit_pairs": float(len(forecasts)),
        "load_s_per_gb": round(max(row.seconds_per_gb for row in loads.values()), 3),
        "load_peak_over_final": round(max(row.peak_over_final for row in loads.values()), 3),
        "avx2_decode_ratio_vs_llamacpp_avx2": round(summary(avx2.ratios)["median"], 3),
        "wrong_models_refused_in_one_line": float(len(refused)),
    }
    details = {
        "exactness": {
            family: {"largest_error": row.worst, "formats": row.formats}
            for family, row in exact.items()
        },
        "forecasts": [
            {
                "model": forecast.model,
                "format": forecast.format,
                "predicted_s": forecast.predicted_s,
                "measured_s": forecast.measured_s,
            }
            for forecast in forecasts
        ],
        "loading": {name: loaded.record() for name, loaded in loads.items()},
        "avx2_tokens_per_s": avx2.record(),
        "peer": f"llama.cpp of llama-cpp-python {llamacpp.VERSION}, built without AVX-512",
        "refusals": refused,
    }
    finish("models", keys, details)


if __name__ == "__main__":
    main()
