"""`tokenworks up`: the model, the engine and the server, wired together in the foreground."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import msgspec

from tokenworks.cli.console import aside, data
from tokenworks.cli.memory import check_memory, need_of, statement_of
from tokenworks.cli.models import ensure
from tokenworks.cli.plan import rounding_for
from tokenworks.config import Config, service_manager
from tokenworks.errors import ConfigError
from tokenworks.fleet.discover.memory import read_memory
from tokenworks.fleet.service_manager import READY, notify
from tokenworks.gateway.engine import EngineBackend
from tokenworks.inference.models.model import load_model
from tokenworks.server.run import run as serve
from tokenworks.server.settings import ServerSettings, read_api_key
from tokenworks.telemetry import log
from tokenworks.telemetry.metrics import Metrics


def run(config: Config, *, debug: bool) -> None:
    """Serve until Ctrl-C. Raises TokenworksError if something keeps it from starting."""
    log.set_up("debug" if debug else "info")
    read_api_key(config.server)  # said before a long download, not after it
    model, path = ensure(config)
    check_model(path)
    check_memory(config, need_of(config, path), read_memory())
    metrics = Metrics()
    # Chosen once, here: an engine that is started again goes on with the very same weights.
    rounding = rounding_for(config, path)
    engine = msgspec.structs.replace(
        config.engine, model_path=str(path), model_id=model, rounding=rounding
    )
    aside.print(f"memory: {statement_of(need_of(config, path), read_memory())}", style="dim")
    aside.print(f"loading {model}", style="dim")
    backend = EngineBackend(engine, metrics=metrics)

    def ready(url: str) -> None:
        data.print(welcome(url, model, config.server))
        sys.stdout.flush()
        notify(service_manager(), READY)

    serve([backend], config.server, metrics=metrics, on_ready=ready)
    aside.print("stopped", style="dim")


def welcome(url: str, model: str, settings: ServerSettings) -> str:
    """What to try next, ready to paste."""
    program = (
        "tokenworks" if shutil.which("tokenworks") == sys.argv[0] else shlex.quote(sys.argv[0])
    )
    key = settings.api_key_file
    body = (
        f'{{"model": {json.dumps(model)}, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    )
    quoted = shlex.quote(body)
    header = f' -H "authorization: Bearer $(cat {shlex.quote(key)})"' if key else ""
    flag = f" --api-key-file {shlex.quote(key)}" if key else ""
    return f"""\
{model} answers at {url}

  page  {url}/
  talk  {program} chat --url {url}{flag}
  curl  curl {url}/v1/chat/completions -H 'content-type: application/json'{header} -d {quoted}

Ctrl-C lets running answers finish, for {settings.drain_seconds:g} s at most, and stops."""


def check_model(path: Path) -> None:
    """Refuse a file that the engine could not run, here where the reason reaches the person."""
    model = load_model(path)
    model.close()
    if model.config.is_encoder:
        raise ConfigError(
            f"{model.config.name!r} is an encoder: it makes vectors of texts, it does not answer",
            hint=f"tokenworks embed --model {shlex.quote(str(path))} TEXT",
        )
