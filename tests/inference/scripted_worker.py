"""The worker's own loop in a process of its own, over scripted logits instead of a model.

python scripted_worker.py SOCKET_FD SECONDS_PER_FORWARD, settings on stdin
"""

import socket
import sys

import msgspec

from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.scripted import ScriptedExecutor
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.worker import Worker, describe
from tokenworks.telemetry.clock import MonotonicClock

if __name__ == "__main__":
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=EngineSettings)
    executor = ScriptedExecutor(delay_s=float(sys.argv[2]))
    engine = Engine(executor, settings, MonotonicClock())
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        Worker(connection, engine).serve(describe(engine, settings, executor.description))
