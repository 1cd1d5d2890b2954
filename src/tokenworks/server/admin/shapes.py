"""What the administration answers, and its errors: the shapes that its description promises.

More fields may follow in later versions.
"""

from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Shape(BaseModel):
    model_config = ConfigDict(extra="allow")


class Listed(Shape, Generic[T]):
    data: list[T]


class Problem(Shape):
    """`message` says what was wrong and what to do."""

    message: str
    type: str
    param: str | None
    code: str | None


class Refusal(Shape):
    error: Problem


class AllowanceShown(Shape):
    requests_per_minute: int | None
    tokens_per_minute: int | None


class KeyShown(Shape):
    """Whose a key is and what it allows. Times are seconds since 1970 UTC."""

    id: str
    tenant: str
    user: str
    name: str
    role: str
    scopes: list[str]
    label: str
    models: list[str]
    allowance: AllowanceShown
    priority_max: int
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class KeyIssued(KeyShown):
    """With the key itself, which is shown here and never again."""

    key: str


class BudgetShown(Shape):
    """A budget and what was used of it in the period from `starts` on. Money in micro-dollars."""

    holder: str
    period: str
    starts: int
    money: int | None
    tokens: int | None
    spent: int
    reserved: int
    spent_tokens: int
    reserved_tokens: int


class UsageShown(Shape):
    """Sums over the requests of one group. Money in micro-dollars."""

    group: dict[str, str]
    requests: int
    lost: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    tokens: int
    money: int
    excess: int
    energy_j: float
    first_token_ms: float | None  # on average
    gap_p50_ms: float | None  # between pieces: the average of requests' medians
    gap_p99_ms: float | None  # the longest of requests' 99th percentiles


class BillShown(Shape):
    """What a tenant owes for a month of UTC, and what of it each backend is owed. Money in
    micro-dollars."""

    tenant: str
    month: str
    lines: list[UsageShown]
    backends: dict[str, int]
    money: int


class RequestShown(Shape):
    """One request, without anything that it said. Times in milliseconds; `at` in Unix seconds."""

    request_id: str
    at: float
    tenant: str
    key_id: str
    model: str
    label: str
    found: list[str]
    backend: str
    status: str
    error: str
    money: int
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: float | None
    gap_p50_ms: float | None
    gap_p99_ms: float | None
    total_ms: float | None
    energy_j: float | None  # an estimate
    operation: str  # chat, text_completion or embeddings
    trace_id: str  # of the W3C trace that it belongs to; empty: nobody traces it


class RouteShown(RequestShown):
    """With the candidates, their scores and what was ruled out, and how each attempt went."""

    route: dict[str, Any]
    tried: list[dict[str, Any]]


class BackendShown(Shape):
    """A backend; `context_length` null: not known."""

    name: str
    tier: str
    clearance: str
    models: list[str]
    abilities: list[str]
    region: str
    context_length: int | None
    state: str
    reason: str
    details: dict[str, float | int | str]


class PoliciesShown(Shape):
    """The policies that hold; `problem` says why those in the file do not, where that is so."""

    policies: dict[str, Any]
    problem: str | None


class Reloaded(Shape):
    changed: bool


REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Refusal, "description": "A parameter is wrong; its message says which"},
    401: {"model": Refusal, "description": "No key, or one that is unknown"},
    403: {"model": Refusal, "description": "The key may not do this"},
    503: {"model": Refusal, "description": "The books cannot be used now: `Retry-After`"},
}
WITH_BODY: Final[dict[int | str, dict[str, Any]]] = {
    408: {"model": Refusal, "description": "The body came too slowly"},
    413: {"model": Refusal, "description": "The body is too large"},
    415: {"model": Refusal, "description": "The content type is not application/json"},
}
NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Refusal, "description": "There is none of this name"}
}
REVOKED: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": Refusal, "description": "The key was revoked"}
}
