"""What an application does with OpenAI's client: a program, run under each version of it.

    python tests/openai_script.py URL

prints one JSON object: what each ability gave.
"""

import asyncio
import json
import sys
from typing import Any

import openai

ASK: Any = [{"role": "user", "content": "Say hello."}]
FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {}}}


def chats(client: openai.OpenAI) -> dict[str, Any]:
    whole = client.chat.completions.create(model="helper", messages=ASK, max_tokens=20)
    with client.chat.completions.create(
        model="helper", messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
    tools: Any = [{"type": "function", "function": FUNCTION}]
    called = client.chat.completions.create(model="caller", messages=ASK, tools=tools)
    (call,) = called.choices[0].message.tool_calls or ()
    text = client.completions.create(model="helper", prompt="Say hello.", max_tokens=20)
    return {
        "chat": whole.choices[0].message.content,
        "stream": "".join(one.choices[0].delta.content or "" for one in events if one.choices),
        "usage": events[-1].usage is not None and events[-1].usage.completion_tokens,
        "call": [call.function.name, call.function.arguments],  # type: ignore[union-attr]
        "completion": text.choices[0].text,
    }


def responses(client: openai.OpenAI) -> dict[str, Any]:
    first = client.responses.create(model="helper", input="My plan.")
    events = list(
        client.responses.create(
            model="helper", input="Go on.", previous_response_id=first.id, stream=True
        )
    )
    items = client.responses.input_items.list(first.id).data
    read = client.responses.retrieve(first.id).output_text
    client.responses.delete(first.id)
    return {
        "response": read,
        "events": [events[0].type, events[-1].type],
        "items": [item.type for item in items],
        "deleted": status_of(lambda: client.responses.retrieve(first.id)),
    }


def others(client: openai.OpenAI) -> dict[str, Any]:
    vectors = client.embeddings.create(model="helper", input=["a", "b"])
    return {
        "vectors": [len(one.embedding) for one in vectors.data],
        "floats": isinstance(vectors.data[0].embedding[0], float),
        "models": sorted(model.id for model in client.models.list()),
        "unknown": status_of(lambda: client.chat.completions.create(model="gpt-9", messages=ASK)),
        "wrong": status_of(
            lambda: client.chat.completions.create(model="helper", messages=ASK, temperature=9)
        ),
        "label": status_of(
            lambda: client.chat.completions.create(
                model="helper", messages=ASK, extra_headers={"x-tokenworks-label": "secret"}
            )
        ),
        "key": status_of(
            lambda: client.with_options(api_key="wrong").chat.completions.create(
                model="helper", messages=ASK
            )
        ),
    }


def status_of(call: Any) -> list[Any]:
    """What the call is refused with, as the client tells it."""
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code]
    return []


async def at_once(url: str, key: str) -> list[str | None]:
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        asked = (client.chat.completions.create(model="helper", messages=ASK) for _ in range(8))
        answers = await asyncio.gather(*asked)
    return [answer.choices[0].message.content for answer in answers]


def main(url: str, key: str) -> None:
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=30.0) as client:
        told = {**chats(client), **responses(client), **others(client)}
    told |= {"version": openai.__version__, "at_once": asyncio.run(at_once(url, key))}
    print(json.dumps(told))  # noqa: T201  (whoever started this reads it)


if __name__ == "__main__":
    main(*sys.argv[1:])
