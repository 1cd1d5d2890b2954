"""The commands about the router that chooses between two models: train one, show what one is.

Parts are imported inside the commands, so that `--help` is quick.
"""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenworks.cli.options import Json

if TYPE_CHECKING:
    from tokenworks.gateway.quality.router import QualityRouter

route_app = typer.Typer(
    help="Train and show what chooses between a weak and a strong model.", no_args_is_help=True
)


@route_app.command()
def train(
    data: Annotated[
        Path, typer.Argument(help="CSV or JSON Lines: `prompt`, and a score of each model.")
    ],
    weak: Annotated[str, typer.Option(help="The cheap model's column, and name.")],
    strong: Annotated[str, typer.Option(help="The good model's column, and name.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    quality: Annotated[
        float, typer.Option(min=0.01, max=1, help="What of the strong model's quality is to stay.")
    ] = 0.95,
    as_json: Json = False,
) -> None:
    """Learn from judged answers when the weak model is good enough, and write that to a file."""
    from tokenworks.cli.console import aside
    from tokenworks.gateway.quality.files import save
    from tokenworks.gateway.quality.pairs import read_pairs
    from tokenworks.gateway.quality.training import train as trained

    pairs = read_pairs(data, weak, strong)
    router = trained(pairs, quality=quality, date=date.today().isoformat())
    save(router, out)
    _show(router, as_json)
    aside.print(f"written to {out}: name it in the policies, as quality.router")


@route_app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A file that `route train` wrote.")],
    as_json: Json = False,
) -> None:
    """What a router was trained on, what each quality costs, how far its chances hold."""
    from tokenworks.gateway.quality.files import load

    _show(load(file), as_json)


def _show(router: "QualityRouter", as_json: bool) -> None:
    import msgspec

    from tokenworks.cli.console import data, printable

    told = router.described()
    if as_json:
        data.print(msgspec.json.encode(told).decode())
        return
    data.print(f"trained on {told['prompts']} prompts on {told['date']}")
    for role in ("weak", "strong"):
        model = told[role]
        data.print(
            f"{role}: {printable(model['name'])} scores {model['score']:.3f}; its chances are off "
            f"by {model['calibration_error']:.3f} on average"
        )
    data.print(_curve(told))
    data.print(_reliability(told))


def _curve(told: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("quality asked for", "to the strong model", "quality reached", "from a gain of"):
        table.add_column(title, justify="right")
    for point in told["curve"]:
        mark = " *" if point["quality"] == told["quality"] else ""
        table.add_row(
            f"{point['quality']:g}{mark}",
            f"{point['share']:.1%}",
            f"{point['reached']:.3f}",
            f"{point['threshold']:.3f}",
        )
    return table


def _reliability(told: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("prompts", "weak: chance", "right", "strong: chance", "right"):
        table.add_column(title, justify="right")
    for low, high in zip(told["weak"]["reliability"], told["strong"]["reliability"], strict=True):
        table.add_row(
            str(low["prompts"]),
            *(f"{one[name]:.3f}" for one in (low, high) for name in ("chance", "right")),
        )
    return table
