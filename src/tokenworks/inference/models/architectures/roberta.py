"""RoBERTa and XLM-R (multilingual E5, BGE-M3): BERT whose positions begin behind the padding token.

llama.cpp's converter drops the unused first rows and calls the result BERT.
"""

from dataclasses import replace

from tokenworks.inference.models.architectures.bert import (
    ENCODER_BLOCK,
    ENCODER_IGNORED,
    ENCODER_TENSORS,
)
from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.values import Values
from tokenworks.inference.models.config import ModelConfig


def _adjust(config: ModelConfig, values: Values) -> ModelConfig:
    offset = values.size("pad_token_id", default=1, least=0) + 1
    if offset >= config.position_rows:
        raise values.error(
            f"positions begin in row {offset}, behind {values.key('pad_token_id')}, "
            f"but there are {config.position_rows}"
        )
    return replace(config, position_offset=offset, context_length=config.position_rows - offset)


ROBERTA = Architecture(
    name="roberta",
    model_types=("roberta", "xlm-roberta"),
    block=ENCODER_BLOCK,
    tensors=ENCODER_TENSORS,
    roots=("", "roberta."),
    ignored=ENCODER_IGNORED,
    adjust=_adjust,
)
