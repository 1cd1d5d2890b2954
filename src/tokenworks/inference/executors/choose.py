"""Opens the executor that the settings ask for, the fastest that fits by default."""

import logging

from tokenworks.errors import ConfigError, UnsupportedByKernels
from tokenworks.fleet.discover.processors import usable_cores
from tokenworks.inference.executors.base import ModelExecutor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import Model
from tokenworks.inference.settings import EngineSettings

logger = logging.getLogger(__name__)


def open_executor(model: Model, settings: EngineSettings) -> ModelExecutor:
    """An executor with the model's weights loaded.

    "auto" falls back to the reference executor, with a warning, where the native kernels cannot
    be loaded or do not fit the model. Raises ConfigError for settings that cannot be met.
    """
    context_length = context_length_of(model.config, settings)
    if settings.executor == "reference":
        return _open_reference(model, settings, context_length)
    try:
        return _open_native(model, settings, context_length)
    except (ImportError, UnsupportedByKernels) as error:
        if settings.executor == "native":
            raise ConfigError(
                f"the native executor cannot be used: {error}",
                hint="set executor to 'auto' or 'reference'; see: tokenworks doctor",
            ) from error
        logger.warning("no native kernels (%s): falling back to the slow reference", error)
        return _open_reference(model, settings, context_length)


def _open_reference(model: Model, settings: EngineSettings, context_length: int) -> ModelExecutor:
    return ReferenceExecutor(
        model, context_length=context_length, kv_format=_kv_format(model, settings)
    )


def _open_native(model: Model, settings: EngineSettings, context_length: int) -> ModelExecutor:
    # Imported here: the extension may be missing, and the reference must work without it.
    from tokenworks.inference.executors.native import NativeExecutor

    return NativeExecutor(
        model,
        isa=settings.isa,
        threads=settings.threads or usable_cores(),
        context_length=context_length,
        rounding=settings.rounding,
        kv_format=_kv_format(model, settings),
    )


def _kv_format(model: Model, settings: EngineSettings) -> KvFormat:
    """An encoder keeps nothing from one forward to the next: it would gain nothing."""
    return "bf16" if model.config.is_encoder else settings.kv_format


def context_length_of(config: ModelConfig, settings: EngineSettings) -> int:
    """Most tokens of a request. Raises ConfigError for more than the model was trained for."""
    trained = config.context_length
    if settings.context_length > trained:
        raise ConfigError(
            f"context_length {settings.context_length} is more than the {trained} tokens "
            f"that model {config.name!r} was trained for",
            hint=f"set context_length to {trained} or less, or to 0",
        )
    return settings.context_length or trained
