"""Ask many things at once and see the batching: python examples/many.py [ADDRESS]"""

import asyncio
import sys
import time

from openai import AsyncOpenAI

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8410"
fruits = ["apples", "bananas", "cherries", "dates", "figs", "grapes", "kiwis", "lemons"]


async def ask(client: AsyncOpenAI, model: str, fruit: str) -> int:
    """Ask one thing; return how many tokens the answer took."""
    answer = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"Say one thing about {fruit}."}],
        max_tokens=16,
    )
    text = (answer.choices[0].message.content or "").replace("\n", " ")
    print(f"{fruit}: {text}")
    return answer.usage.completion_tokens if answer.usage else 0


async def main() -> None:
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key="none-needed") as client:
        model = (await client.models.list()).data[0].id
        start = time.perf_counter()
        tokens = sum(await asyncio.gather(*(ask(client, model, fruit) for fruit in fruits)))
        seconds = time.perf_counter() - start
    print(f"{tokens} tokens in {seconds:.1f} s: {tokens / seconds:.0f} tokens/s together")


asyncio.run(main())
