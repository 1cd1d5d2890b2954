"""The peer: OpenVINO GenAI's continuous batching, prefix caching on, behind a small server."""

import json
from pathlib import Path

import openvino_peer
from servers import KV_MIB, Server

import llamacpp

SCRIPT = Path(__file__).with_name("openvino_serve.py")
WAYS = {"": {}, ", prompt lookup": {"prompt_lookup": True}}


def server(model: Path, threads: int, sequences: int, way: str = "") -> Server:
    properties = {"INFERENCE_NUM_THREADS": threads, **WAYS[way]}
    settings = {"sequences": sequences, "kv_mib": KV_MIB, "properties": properties}
    return Server(
        f"OpenVINO {llamacpp.encoding(model)}{way}",
        (openvino_peer.PYTHON, SCRIPT, model, json.dumps(settings), "{port}"),
    )
