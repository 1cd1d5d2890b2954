"""The peer: llama-server, built natively, with everything it has against computing twice."""

from pathlib import Path

from servers import KV_MIB, Server

import llamacpp

TOOL = "llama-server"
WAYS: dict[str, tuple[str, ...]] = {
    "as it comes": (),
    "KV apart": ("-no-kvu",),
    "ngram-simple": (
        *("--spec-type", "ngram-simple", "--spec-draft-n-max", "8"),
        *("--spec-ngram-simple-size-n", "4", "--spec-ngram-simple-size-m", "8"),
    ),
    "ngram-map-k": (
        *("--spec-type", "ngram-map-k", "--spec-draft-n-max", "8"),
        *("--spec-ngram-map-k-size-n", "4", "--spec-ngram-map-k-size-m", "8"),
    ),
    "ngram-mod": (
        *("--spec-type", "ngram-mod", "--spec-ngram-mod-n-match", "6"),
        *("--spec-ngram-mod-n-min", "2", "--spec-ngram-mod-n-max", "16"),
    ),
    "ngram-mod, its defaults": ("--spec-default",),
    "small batches": ("-b", "256", "-ub", "256"),
}
"""One store of KV for all slots, or a part for each; speculation without a second model. By default
it waits for 12 or 24 tokens to repeat, which chats seldom do: shorter ones are tried too. In small
batches a long prompt keeps others waiting for less time at once."""


def install() -> None:
    llamacpp.install()
    options = (*llamacpp.NATIVE, *llamacpp.BUILD_OPTIONS)
    llamacpp.build(llamacpp.LLAMA_CPP, llamacpp.BIN, options, (TOOL,))


def installed() -> bool:
    return llamacpp.installed() and (llamacpp.BIN / TOOL).exists()


def server(model: Path, threads: int, slots: int, kv_tokens: int, way: str) -> Server:
    """On a file, with so many slots. KV that a conversation left goes into memory beside the store
    when its slot is needed (8 GiB at most, its default), and comes back for the next turn."""
    settings = ("-t", str(threads), "-tb", str(threads), "-np", str(slots), "-c", str(kv_tokens))
    reuse = ("-fa", "on", "-kvu", "-cb", "--cache-prompt", "--cache-idle-slots")
    place = ("--host", "127.0.0.1", "--port", "{port}", "--log-disable")
    return Server(
        f"llama-server {llamacpp.encoding(model)}, {way}",
        (llamacpp.BIN / TOOL, "-m", model, *settings, *reuse, *place, *WAYS[way]),
        variables={"LD_LIBRARY_PATH": str(llamacpp.BIN)},
    )


def kv_tokens(bytes_per_token: int) -> int:
    """How many tokens fit into the memory that each server is given."""
    return KV_MIB * 2**20 // bytes_per_token // 256 * 256
