"""What the engine backend computes once: over kills and restarts, and for whom."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

from backends import answer, backend_of, cached, completion, run, text, worker_pid
from tokenworks.gateway.backend import Completion


def test_a_killed_engine_goes_on_with_what_it_brought_to_disk(
    tiny_model: Path, tmp_path: Path
) -> None:
    request = completion(prompt="once upon a time " * 8)

    async def until_saved() -> None:
        saved = 0
        while (records := len(list(tmp_path.glob("*/*.page")))) != saved or not saved:
            saved = records
            await asyncio.sleep(0.1)

    async def main() -> None:
        async with backend_of(tiny_model, prefix_cache_dir=str(tmp_path)) as backend:
            first = await answer(backend, request)
            await until_saved()
            pid = worker_pid(backend)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            while worker_pid(backend) in (None, pid):
                await asyncio.sleep(0.01)
            after_a_kill = await answer(backend, request)
        async with backend_of(tiny_model, prefix_cache_dir=str(tmp_path)) as backend:
            after_a_restart = await answer(backend, request)

        assert cached(first) == 0
        assert cached(after_a_kill) > 0
        assert cached(after_a_restart) > 0
        assert text(first) == text(after_a_kill) == text(after_a_restart)

    run(main())


def test_tenants_share_what_both_call_public(tiny_model: Path) -> None:
    system = {"role": "system", "content": "You answer in verse, and never in prose. " * 4}

    def chat(tenant: str, said: str, public: int) -> Completion:
        messages = [system, {"role": "user", "content": said}]
        given = {"messages": messages, "tenant": tenant, "public_prefix": public}
        return replace(completion(prompt=None, **given), request_id=tenant)

    async def main() -> None:
        async with backend_of(tiny_model) as backend:
            assert cached(await answer(backend, chat("a", "good morning", 1))) == 0
            assert cached(await answer(backend, chat("b", "good evening", 0))) == 0
            public = cached(await answer(backend, chat("c", "good night", 1)))
            assert public > 32
            assert public % 16 == 0
            assert cached(await answer(backend, chat("a", "good morning", 1))) > public

    run(main())


def test_a_prompts_public_part_is_counted_in_characters_or_tokens(tiny_model: Path) -> None:
    text = "the answer to everything is " * 6

    async def main() -> None:
        async with backend_of(tiny_model) as backend:
            for prompt, public in ((text, len(text)), (list(range(5, 45)), 40)):
                end = "?" if isinstance(prompt, str) else [3]
                for tenant in "ab":
                    given = {"tenant": tenant, "public_prefix": public}
                    request = completion(prompt=prompt + end, **given)
                    found = cached(await answer(backend, request))
                    assert (found >= 32) == (tenant == "b")

    run(main())
