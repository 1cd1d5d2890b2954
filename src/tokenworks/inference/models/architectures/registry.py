"""The families of models that Tokenworks runs."""

from tokenworks.inference.models.architectures.bert import BERT
from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.gemma3 import GEMMA3
from tokenworks.inference.models.architectures.llama import LLAMA
from tokenworks.inference.models.architectures.mistral import MISTRAL
from tokenworks.inference.models.architectures.qwen2 import QWEN2
from tokenworks.inference.models.architectures.qwen3 import QWEN3
from tokenworks.inference.models.architectures.roberta import ROBERTA

ARCHITECTURES = (LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA3, BERT, ROBERTA)


def of_gguf(name: str) -> Architecture | None:
    """The family by a GGUF file's `general.architecture`."""
    return next((known for known in ARCHITECTURES if known.gguf == name), None)


def of_model_type(name: str) -> Architecture | None:
    """The family by config.json's `model_type`."""
    return next((known for known in ARCHITECTURES if name in known.model_types), None)
