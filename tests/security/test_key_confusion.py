"""Two headers may hold a key: which one counts is never a matter of who reads first."""

from collections.abc import Iterator

import pytest

from hostile import EVERY_ROUTE, Attacked, Field, Reply, asking, attacked, placed
from upstream_server import UpstreamServer, upstream_server


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamServer
) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("keys"), placed(upstream)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def keys(gateway: Attacked) -> dict[str, str]:
    """Of two tenants, in small and in large letters."""
    made = {tenant: gateway.key(tenant) for tenant in ("anna", "bert")}
    return made | {name.upper(): key.upper() for name, key in made.items()}


AS_ANNA = (
    [("authorization", "Bearer {anna}")],
    [("authorization", "BEARER {anna}")],
    [("Authorization", "bearer    {anna}  ")],
    [("x-api-key", "{anna}")],
    [("X-Api-Key", " {anna} ")],
    [("x-api-key", "{anna}"), ("authorization", "Bearer {anna}")],
    [("x-api-key", ""), ("authorization", "Bearer {anna}")],
    [("x-api-key", "{anna}"), ("authorization", "")],
    [("x-api-key", "{anna}"), ("authorization", "Bearer ")],
    [("x-api-key", "{anna}"), ("authorization", "Basic {bert}")],
    [("authorization", "Bearer {anna}"), ("authorization", "Bearer {anna}")],
    [("authorization", "Bearer {anna}"), ("cookie", "x-api-key={bert}")],
    [("authorization", "Bearer {anna}"), ("proxy-authorization", "Bearer {bert}")],
    [("authorization", "Bearer {anna}"), ("x_api_key", "{bert}")],
)
AS_NOBODY = (
    [],
    [("authorization", "{anna}")],
    [("authorization", "Basic {anna}")],
    [("authorization", "Bearer\t{anna}")],
    [("authorization", "Bearer {anna}, Bearer {anna}")],
    [("authorization", "Bearer {anna} {bert}")],
    [("authorization", "Bearer {ANNA}")],
    [("x-api-key", "{ANNA}")],
    [("x-api-key", "Bearer {anna}")],
    [("x_api_key", "{anna}")],
    [("api-key", "{anna}")],
    [("cookie", "authorization=Bearer {anna}; x-api-key={anna}")],
    [("authorization", "Bearer {anna}"), ("x-api-key", "{bert}")],
    [("authorization", "Bearer {bert}"), ("x-api-key", "{anna}")],
    [("authorization", "Bearer {anna}"), ("x-api-key", "unknown")],
    [("authorization", "Bearer unknown"), ("x-api-key", "{anna}")],
    [("authorization", "Bearer {anna}"), ("authorization", "Bearer {bert}")],
    [("x-api-key", "{anna}"), ("x-api-key", "{bert}")],
    [("authorization", "Bearer {anna}"), ("x-api-key", "{ANNA}")],
)


def post(gateway: Attacked, route: str, fields: list[Field], keys: dict[str, str]) -> Reply:
    headers = [(name, value.format(**keys)) for name, value in fields]
    return gateway.post(route, asking(route), *headers)


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_a_key_counts_the_same_in_either_header(
    gateway: Attacked, keys: dict[str, str], route: str
) -> None:
    for fields in AS_ANNA:
        before = len(gateway.ledger())
        answered = post(gateway, route, fields, keys)

        assert answered.status == 200, fields
        (row,) = gateway.ledger()[before:]
        assert row["tenant"] == "anna", fields


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_confusion_of_two_keys_lets_nobody_in(
    gateway: Attacked, upstream: UpstreamServer, keys: dict[str, str], route: str
) -> None:
    asked = len(upstream.asked)
    for fields in AS_NOBODY:
        refused = post(gateway, route, fields, keys)

        assert refused.status == 401, fields
        assert refused.headers["www-authenticate"] == "Bearer"
        assert not any(key in refused.text for key in keys.values())
    assert len(upstream.asked) == asked


def test_a_key_in_an_address_opens_nothing(gateway: Attacked, keys: dict[str, str]) -> None:
    for name in ("key", "api_key", "access_token", "x-api-key"):
        asked = gateway.ask("GET", f"/v1/models?{name}={keys['anna']}")
        assert asked.status == 401


def test_a_key_of_the_anthropic_route_is_no_more_and_no_less_than_elsewhere(
    gateway: Attacked, keys: dict[str, str]
) -> None:
    answers = []
    for route in ("/v1/chat/completions", "/v1/messages"):
        for fields in ([("x-api-key", "nobody's")], [("authorization", "Bearer nobody's")], []):
            answers.append(post(gateway, route, fields, keys).status)

    assert answers == [401] * 6
