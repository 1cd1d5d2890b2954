"""What led to a response, a page at a time, as OpenAI's API lists items. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tokenworks.errors import RequestError

MOST: Final = 100
_PREFIXES: Final = {"function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """At most `limit` items after the one whose id is `after`, the newest first or last."""

    limit: int = 20
    newest_first: bool = True
    after: str = ""


def read_page(query: Mapping[str, str]) -> Page:
    """Raises RequestError naming the parameter that is wrong."""
    limit, order = query.get("limit", "20"), query.get("order", "desc")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:4]) <= MOST):
        raise RequestError(f"limit must be a number from 1 to {MOST}", param="limit")
    if order not in ("asc", "desc"):
        raise RequestError("order must be asc or desc", param="order")
    return Page(limit=int(limit[:4]), newest_first=order == "desc", after=query.get("after", ""))


def listed(identity: str, items: Sequence[dict[str, Any]], page: Page) -> dict[str, Any]:
    """The page of a response's items. Raises RequestError if none of them has the id `after`."""
    key = identity.removeprefix("resp_")
    named = [_named(key, number, item) for number, item in enumerate(items)]
    if page.newest_first:
        named.reverse()
    if page.after:
        at = next((at for at, item in enumerate(named) if item["id"] == page.after), None)
        if at is None:
            raise RequestError("There is no such item of this response", param="after")
        named = named[at + 1 :]
    shown = named[: page.limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(named) > len(shown),
    }


def _named(key: str, number: int, item: dict[str, Any]) -> dict[str, Any]:
    """With an id and a status, and text as a list of parts."""
    kind = item.get("type", "message")
    more = {"id": f"{_PREFIXES.get(kind, 'msg')}_{key}_in{number}"}
    if kind != "reasoning":
        more["status"] = "completed"
    if kind == "message" and isinstance(item["content"], str):
        said: dict[str, Any] = {"type": "input_text", "text": item["content"]}
        if item["role"] == "assistant":
            said = {"type": "output_text", "text": item["content"], "annotations": []}
        return {**more, **item, "content": [said]}
    return {**more, **item}
