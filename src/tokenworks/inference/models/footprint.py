"""How much memory a model takes here and how much of it each token reads. Pure arithmetic."""

import msgspec

from tokenworks.inference.models.kv_format import KvFormat, vector_bytes

_PAGE_TOKENS = 16


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What of a model decides memory and speed. `packed_bytes` are its weights as the kernels
    hold them, the output head included and the embedding's rows, read from the file, not;
    `four_bit_bytes` are those of them in 4-bit groups, which take more work a byte."""

    packed_bytes: int
    four_bit_bytes: int = 0
    layers: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_length: int
    kv_format: KvFormat = "bf16"

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token, all layers."""
        vectors = 2 * self.layers * self.kv_heads
        return vectors * vector_bytes(self.kv_format, self.head_dim)

    def kv_bytes(self, tokens: int) -> int:
        """Bytes that this many tokens of one request take, in whole pages."""
        return -(-tokens // _PAGE_TOKENS) * _PAGE_TOKENS * self.kv_bytes_per_token
