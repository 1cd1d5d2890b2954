"""Stream an answer with the official OpenAI client: python examples/stream.py [ADDRESS]"""

import sys

from openai import OpenAI

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8410"
with OpenAI(base_url=f"{address}/v1", api_key="none-needed-on-this-machine") as client:
    model = client.models.list().data[0].id
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Why is the sky blue? One sentence."}],
        max_tokens=48,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in answer:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f"\n{chunk.usage.completion_tokens} tokens from {model}")
