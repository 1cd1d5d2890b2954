"""The commands about who may ask and what it costs: keys, limits, budgets, bill.

Parts are imported inside the commands, so that `--help` is quick.
"""

from typing import Annotated

import typer

from tokenworks.cli.options import ConfigFile, Json

keys_app = typer.Typer(help="Make, list, rotate and revoke keys.", no_args_is_help=True)
limits_app = typer.Typer(help="Limit requests and tokens a minute.", no_args_is_help=True)
budgets_app = typer.Typer(help="Limit money and tokens.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")]
Holder = Annotated[str, typer.Argument(help="tenant:NAME, user:TENANT/NAME or key:ID.")]
Period = Annotated[str, typer.Option(help="day, month or total.")]
PerMinute = Annotated[int | None, typer.Option(min=0)]


@keys_app.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Whose it is: an organisation, a team.")],
    user: Annotated[str, typer.Option(help="Which person or program of theirs.")] = "",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    role: Annotated[str, typer.Option(help="user, accountant, service or admin.")] = "user",
    label: Annotated[
        str, typer.Option(help="What its data is at least: public, internal, private, secret.")
    ] = "",
    model: Annotated[
        list[str] | None, typer.Option(help="Only models like this; may be given again.")
    ] = None,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: PerMinute = None,
    most_priority: Annotated[
        int, typer.Option(min=-10, max=10, help="Highest priority of a request.")
    ] = 0,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="It holds so long.")] = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Make a key and show it, this once."""
    from tokenworks.accounts.keys import NewKey
    from tokenworks.accounts.limits import Allowance
    from tokenworks.cli.keys import create
    from tokenworks.config import load

    allowance = Allowance(
        requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
    )
    new = NewKey(
        tenant=tenant,
        user=user,
        name=name,
        role=role,
        label=label,
        models=tuple(model or ()),
        allowance=allowance,
        priority_max=most_priority,
    )
    create(load(config_file=config), new, days=days, json=as_json)


@keys_app.command("list")
def list_keys(as_json: Json = False, config: ConfigFile = None) -> None:
    """All keys: whose they are and what they allow, not what they are."""
    from tokenworks.cli.keys import show
    from tokenworks.config import load

    show(load(config_file=config), json=as_json)


@keys_app.command("rotate")
def rotate_key(
    key_id: KeyId,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="How long the old secret still holds.")
    ] = 24.0,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Give a key a new secret and show it, this once."""
    from tokenworks.cli.keys import rotate
    from tokenworks.config import load

    rotate(load(config_file=config), key_id, grace_hours=grace_hours, json=as_json)


@keys_app.command("revoke")
def revoke_key(key_id: KeyId, config: ConfigFile = None) -> None:
    """Let a key open nothing from now on."""
    from tokenworks.cli.keys import revoke
    from tokenworks.config import load

    revoke(load(config_file=config), key_id)


@limits_app.command("set")
def set_limit(
    holder: Holder,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: PerMinute = None,
    config: ConfigFile = None,
) -> None:
    """Limit what a holder may use a minute, in place of the limits it has."""
    from tokenworks.accounts.limits import Allowance
    from tokenworks.cli.limits import put
    from tokenworks.config import load

    allowance = Allowance(
        requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
    )
    put(load(config_file=config), holder, allowance)


@limits_app.command("remove")
def remove_limit(holder: Holder, config: ConfigFile = None) -> None:
    """Let a holder use as much a minute as it likes."""
    from tokenworks.cli.limits import remove
    from tokenworks.config import load

    remove(load(config_file=config), holder)


@limits_app.command("list")
def list_limits(as_json: Json = False, config: ConfigFile = None) -> None:
    """All limits of keys, users and tenants."""
    from tokenworks.cli.limits import show
    from tokenworks.config import load

    show(load(config_file=config), json=as_json)


@budgets_app.command("set")
def set_budget(
    holder: Holder,
    period: Period = "month",
    money: Annotated[str | None, typer.Option(help="US dollars, e.g. 20.00.")] = None,
    tokens: Annotated[
        int | None, typer.Option(min=0, help="Tokens of prompts and answers.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Limit what a holder may use in each period."""
    from tokenworks.cli.budgets import put
    from tokenworks.config import load

    put(load(config_file=config), holder, period, money, tokens)


@budgets_app.command("remove")
def remove_budget(holder: Holder, period: Period = "month", config: ConfigFile = None) -> None:
    """Lift a holder's limit; what was used is kept."""
    from tokenworks.cli.budgets import remove
    from tokenworks.config import load

    remove(load(config_file=config), holder, period)


@budgets_app.command("list")
def list_budgets(as_json: Json = False, config: ConfigFile = None) -> None:
    """All budgets, with what was used of them in the period that runs."""
    from tokenworks.cli.budgets import show
    from tokenworks.config import load

    show(load(config_file=config), json=as_json)


def bill(
    tenant: Annotated[str | None, typer.Option(help="Only this one's.")] = None,
    month: Annotated[str | None, typer.Option(help="e.g. 2026-11 [default: this one].")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="A line for each user, key, model, backend, tier, label, status or day; "
            "may be given again [default: model, backend]."
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for programs.")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """What a month has cost, tenant by tenant."""
    from tokenworks.accounts.usage import BY_BACKEND
    from tokenworks.cli.bill import show
    from tokenworks.config import load

    show(load(config_file=config), tenant, month, by or BY_BACKEND, csv=as_csv, json=as_json)
