"""Routing by quality: what a router costs and keeps on prompts that it has never seen.

    python gateway_routing.py [--data FOLDER] [--orders N]

Real answers of Mixtral 8x7B and GPT-4 to 1,319 questions, judged right or wrong. Five splits: of a
fixed order, each fifth is held back once. Everything, thresholds too, comes from the other four.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from harness import DATA, summary

from tokenworks.gateway.quality.calibration import calibration_error, reliability
from tokenworks.gateway.quality.features import features
from tokenworks.gateway.quality.pairs import read_pairs
from tokenworks.gateway.quality.thresholds import cost_vs_random
from tokenworks.gateway.quality.training import Pairs, train

FOLDER = DATA / "gateway"
FILE = "routellm_gsm8k_responses.csv"
MODELS = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
SPLITS = 5
QUALITY = 0.95
SHOWN = (0.85, 0.9, 0.95, 0.97, 0.99)


def routing_figures(folder: Path | None = None, orders: int = 1) -> dict[str, object]:
    """`router_cost_vs_random`, `router_quality_at_setting` (means over five splits), and details.

    `orders` beyond the first show how far the five figures are chance. Raises FileNotFoundError.
    """
    pairs = read_pairs((folder or FOLDER) / FILE, *MODELS)
    rounds = [split for order in range(orders) for split in splits(len(pairs.prompts), order)]
    measured = [measure(pairs, known, held) for known, held in rounds]
    first = measured[:SPLITS]
    at = [one["curve"][f"{QUALITY:g}"] for one in measured]
    costs, kept = [[each[name] for each in at] for name in ("cost_vs_random", "quality")]
    return {
        "router_cost_vs_random": round(statistics.fmean(costs[:SPLITS]), 4),
        "router_quality_at_setting": round(statistics.fmean(kept[:SPLITS]), 4),
        "cost": summary(costs[:SPLITS]),
        "quality": summary(kept[:SPLITS]),
        "all_orders": {
            "splits": len(measured),
            "cost": spread(costs),
            "quality": spread(kept),
            "mean_quality_of_an_order": spread(
                [statistics.fmean(kept[i : i + SPLITS]) for i in range(0, len(kept), SPLITS)]
            ),
        },
        "curve": {
            name: {
                key: statistics.fmean(one["curve"][name][key] for one in first)
                for key in ("share", "quality", "cost_vs_random")
            }
            for name in first[0]["curve"]
        },
        "calibration": pooled(first),
        "ms_per_prompt": ms_per_prompt(pairs),
    }


def splits(count: int, order: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(known, held back), five times: each prompt is held back once."""
    parts = np.array_split(np.random.default_rng(order).permutation(count), SPLITS)
    return [(np.concatenate([part for part in parts if part is not held]), held) for held in parts]


def measure(pairs: Pairs, known: np.ndarray, held: np.ndarray) -> dict:
    router = train(chosen(pairs, known), quality=QUALITY, date="")
    asked = chosen(pairs, held)
    low, high = router.chances(list(asked.prompts))
    worst, best = float(asked.weak.mean()), float(asked.strong.mean())
    curve = {}
    for quality in SHOWN:
        up = high - low >= router.point(quality).threshold
        reached = float(np.where(up, asked.strong, asked.weak).mean())
        share = float(up.mean())
        curve[f"{quality:g}"] = {
            "share": share,
            "quality": reached / best,
            "cost_vs_random": cost_vs_random(share, reached, worst, best),
        }
    return {"curve": curve, "weak": (low, asked.weak), "strong": (high, asked.strong)}


def chosen(pairs: Pairs, rows: np.ndarray) -> Pairs:
    return Pairs(
        prompts=[pairs.prompts[row] for row in rows],
        weak=pairs.weak[rows],
        strong=pairs.strong[rows],
        names=pairs.names,
    )


def pooled(measured: list[dict]) -> dict[str, dict]:
    """Reliability of the chances of all prompts that were held back, and its mean error."""
    record = {}
    for name in ("weak", "strong"):
        chances, right = (np.concatenate([one[name][i] for one in measured]) for i in (0, 1))
        bins = reliability(chances, right)
        record[name] = {
            "error": calibration_error(bins),
            "brier": float(((chances - right) ** 2).mean()),
            "brier_of_the_mean": float(right.var()),
            "bins": [[one.prompts, one.chance, one.right] for one in bins],
        }
    return record


def ms_per_prompt(pairs: Pairs) -> dict[str, float]:
    """What a decision takes: features and both chances, and that of a long prompt."""
    router = train(pairs, quality=QUALITY, date="")
    router.chances([pairs.prompts[0]])
    figures = {}
    for name, prompts in (
        ("question", list(pairs.prompts)),
        ("long prompt", [" ".join(pairs.prompts[:60])] * 50),
    ):
        times = []
        for prompt in prompts:
            begun = time.perf_counter()
            router.chances_of(features(prompt)[None, :])
            times.append((time.perf_counter() - begun) * 1e3)
        figures[name] = statistics.median(times)
    return figures


def spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.pstdev(values),
        "min": min(values),
        "max": max(values),
    }


def show(figures: dict) -> None:
    print("asked for   to the strong model   quality kept   strong calls ÷ random mix's")
    for name, each in figures["curve"].items():
        print(
            f"{name:>9}{each['share']:>21.3f}{each['quality']:>15.3f}"
            f"{each['cost_vs_random']:>20.3f}"
        )
    for name, each in figures["calibration"].items():
        print(f"\n{name}: mean distance of chance and share right {each['error']:.3f}")
        for prompts, chance, right in each["bins"]:
            print(f"  {prompts:>5} prompts{chance:>8.2f}{right:>8.2f}  {'#' * round(right * 40)}")
    print(f"\nmilliseconds a prompt: {figures['ms_per_prompt']}")
    print(f"all orders: {figures['all_orders']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=FOLDER, help=f"folder with {FILE}")
    parser.add_argument("--orders", type=int, default=1)
    options = parser.parse_args()
    figures = routing_figures(options.data, options.orders)
    show(figures)
    print(json.dumps({key: value for key, value in figures.items() if key.startswith("router_")}))


if __name__ == "__main__":
    main()
