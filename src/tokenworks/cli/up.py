"""`tokenworks up`: the model, the engine and the server, wired together in the foreground."""

import gc
import json
import shlex
import shutil
import sys
from pathlib import Path

import msgspec

from tokenworks.accounts.limits import Limits
from tokenworks.cli.books import opened, settled
from tokenworks.cli.console import aside, data
from tokenworks.cli.memory import check_memory, need_of, statement_of
from tokenworks.cli.models import ensure
from tokenworks.cli.plan import rounding_for
from tokenworks.cli.traces import traces_of
from tokenworks.config import Config, environment_variables, service_manager
from tokenworks.errors import ConfigError
from tokenworks.fleet.discover.memory import read_memory
from tokenworks.fleet.service_manager import READY, notify
from tokenworks.gateway.books import KeptBooks
from tokenworks.gateway.embedding_device import EncoderBackend
from tokenworks.gateway.engine import EngineBackend
from tokenworks.gateway.gateway import Gateway
from tokenworks.gateway.policies import PolicyFile
from tokenworks.inference.models.model import load_model
from tokenworks.inference.settings import NO_DRAFT, DraftFile
from tokenworks.inference.text.open import open_codec
from tokenworks.server.run import run as serve
from tokenworks.server.settings import ServerSettings, read_api_key
from tokenworks.telemetry import log
from tokenworks.telemetry.clock import MonotonicClock
from tokenworks.telemetry.metrics import Metrics

NO_MODEL = "none"
"""What `--model` says where only backends elsewhere answer."""


def run(config: Config, *, debug: bool) -> None:
    """Serve until Ctrl-C. Raises TokenworksError if something keeps it from starting."""
    log.set_up("debug" if debug else "info")
    read_api_key(config.server)  # said before a long download, not after it
    policies = PolicyFile(settled(config).policies)
    metrics = Metrics()
    backends = [] if config.model == NO_MODEL else [_own(config, metrics)]
    served = [model for one in backends for model in one.models]
    served += [model for one in policies.current.backends for model in one.models]
    if not served:
        raise ConfigError(
            "There is nothing to serve: no model, and no backend in the policies",
            hint="leave --model out, or name backends: --policies FILE",
        )

    def ready(url: str) -> None:
        gc.freeze()  # what is there now stays: going through it for garbage would stall streams
        embeds = any(isinstance(one, EncoderBackend) for one in backends)
        data.print(welcome(url, served[0], config.server, embeds=embeds))
        sys.stdout.flush()
        notify(service_manager(), READY)

    with opened(config) as books, traces_of(config) as traces:
        clock = MonotonicClock()
        gateway = Gateway(
            backends,
            metrics,
            clock,
            policies=policies,
            books=KeptBooks(books.keys, books.budgets, Limits(clock)),
            environment=environment_variables(),
            traces=traces,
        )
        serve(gateway, config.server, metrics, books=books, on_ready=ready)
    aside.print("stopped", style="dim")


def _own(config: Config, metrics: Metrics) -> EngineBackend | EncoderBackend:
    """What answers on this machine, not started yet: an engine, or for vectors an encoder."""
    model, path = ensure(config, config.model)
    if not is_encoder(path):
        return _engine(config, metrics, model, path)
    aside.print(f"loading {model}, an encoder: it answers /v1/embeddings alone", style="dim")
    settings = msgspec.structs.replace(config.engine, model_path=str(path), model_id=model)
    return EncoderBackend(settings)


def _engine(config: Config, metrics: Metrics, model: str, path: Path) -> EngineBackend:
    draft = draft_for(config, path)
    check_memory(config, need_of(config, path, draft), read_memory())
    # Chosen once, here: an engine that is started again goes on with the very same weights.
    rounding = rounding_for(config, path)
    engine = msgspec.structs.replace(
        config.engine, model_path=str(path), model_id=model, rounding=rounding, draft=draft
    )
    need = need_of(config, path, draft)
    aside.print(f"memory: {statement_of(need, read_memory())}", style="dim")
    aside.print(f"loading {model}", style="dim")
    return EngineBackend(engine, metrics=metrics)


def welcome(url: str, model: str, settings: ServerSettings, *, embeds: bool = False) -> str:
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
    if embeds:
        asked = shlex.quote(json.dumps({"model": model, "input": "Hello!"}))
        return f"""\
{model} makes vectors at {url}

  curl  curl {url}/v1/embeddings -H 'content-type: application/json'{header} -d {asked}

Ctrl-C stops."""
    return f"""\
{model} answers at {url}

  page  {url}/
  talk  {program} chat --url {url}{flag}
  curl  curl {url}/v1/chat/completions -H 'content-type: application/json'{header} -d {quoted}

Ctrl-C lets running answers finish, for {settings.drain_seconds:g} s at most, and stops."""


def draft_for(config: Config, path: Path) -> DraftFile:
    """The model that guesses for the one at `path`, if one is wanted.

    Raises ConfigError for one of another vocabulary: its tokens would mean something else.
    """
    if not config.draft_model or config.engine.speculation == "off":
        return NO_DRAFT
    name, own = ensure(config, config.draft_model)
    check_model(own)
    codecs = [open_codec(each) for each in (path, own)]
    sizes = [codec.vocabulary_size for codec in codecs]
    same = sizes[0] == sizes[1] and all(
        codecs[0].token_bytes(token) == codecs[1].token_bytes(token) for token in range(sizes[0])
    )
    if not same:
        raise ConfigError(
            f"the draft model {config.draft_model!r} has another vocabulary than {config.model!r}, "
            "so it cannot guess its tokens",
            hint="take a smaller model of the same family, or leave --draft-model out",
        )
    return DraftFile(path=str(own), model_id=name)


def is_encoder(path: Path) -> bool:
    """Raises ModelFileError for a file that cannot be run."""
    model = load_model(path)
    model.close()
    return model.config.is_encoder


def check_model(path: Path) -> None:
    """Refuse a file that could not answer, here where the reason reaches the person."""
    model = load_model(path)
    model.close()
    if model.config.is_encoder:
        raise ConfigError(
            f"{model.config.name!r} is an encoder: it makes vectors of texts, it does not answer",
            hint=f"tokenworks embed --model {shlex.quote(str(path))} TEXT",
        )
