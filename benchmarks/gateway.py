"""The gateway: what it adds to a request, whether budgets hold, how well it finds private data.

make peers AREA=gateway                      # once: installs Presidio's recognisers
make bench AREA=gateway
"""

import argparse
from typing import Any

import presidio_peer
from gateway_budgets import budget_overruns
from gateway_overhead import overhead
from gateway_privacy import privacy_figures
from harness import DATA, finish, wait_until_idle
from rich.console import Console
from rich.table import Table


def main() -> None:
    parser = argparse.ArgumentParser(description="The gateway's bars.")
    parser.add_argument("--install-peers", action="store_true")
    if parser.parse_args().install_peers:
        presidio_peer.install()
        return
    keys, details = overhead()
    wait_until_idle()
    budgets = budget_overruns()
    wait_until_idle()
    privacy: dict[str, Any] = privacy_figures(DATA / "gateway")
    bars: dict[str, float] = {
        **keys,
        "budget_overruns": budgets["budget_overruns"],
        "pii_f1_ratio_vs_presidio": privacy["pii_f1_ratio_vs_presidio"],
        "pii_speed_ratio_vs_presidio": privacy["pii_speed_ratio_vs_presidio"],
    }
    table = Table("what", "measured")
    for name, value in bars.items():
        table.add_row(name, f"{value:g}")
    Console().print(table)
    finish("gateway", bars, {"overhead": details, "budgets": budgets, "privacy": privacy})


if __name__ == "__main__":
    main()
