"""What one tenant's request computed or kept is never another's: not as text, not as speed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import ROUTES, Attacked, Reply, asking, attacked, placed
from serving import serving
from tokenworks.accounts.books import opened
from tokenworks.gateway.engine import EngineBackend
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.metrics import Metrics
from upstream_server import upstream_server

MODEL = "tiny"
PROMPT = "The quick brown fox jumps over the lazy dog. " * 12
"""Several pages of tokens."""


@pytest.fixture(scope="module")
def engine(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("caches")
    settings = EngineSettings(model_path=str(tiny_model), model_id=MODEL)
    with (
        opened(f"sqlite:///{folder / 'books.db'}", folder / "secret") as books,
        serving(EngineBackend(settings, metrics=Metrics()), books=books) as server,
    ):
        yield Attacked(server.url, books)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with (
        upstream_server() as upstream,
        attacked(tmp_path_factory.mktemp("kept"), placed(upstream)) as gateway,
    ):
        yield gateway


def ask(engine: Attacked, key: str, prompt: str, **more: object) -> Reply:
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 1, "temperature": 0, **more}
    reply = engine.post("/v1/completions", body, key=key)
    assert reply.status == 200, reply.text
    return reply


def cached(reply: Reply) -> int:
    return int(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_a_prefix_is_shared_within_a_tenant_and_with_no_other(engine: Attacked) -> None:
    anna, ada = engine.key("acme", user="anna"), engine.key("acme", user="ada")
    others = [engine.key(name) for name in ("acme2", "ACME", "other", "acme user")]

    assert cached(ask(engine, anna, PROMPT)) == 0
    assert cached(ask(engine, anna, PROMPT)) > 0
    assert cached(ask(engine, ada, PROMPT)) > 0
    for other in others:
        assert cached(ask(engine, other, PROMPT)) == 0
        assert cached(ask(engine, other, PROMPT + "And more.")) > 0


def test_only_what_both_call_public_is_shared(engine: Attacked) -> None:
    one, two, three = (engine.key(name) for name in ("one", "two", "three"))
    public = "Public terms of use, which everybody has read many times over. " * 8
    ask(engine, one, public + "My secret is here.", public_prefix=len(public))

    assert cached(ask(engine, two, public + "My secret is here.")) == 0
    shared = cached(ask(engine, three, public + "My secret is here.", public_prefix=len(public)))
    assert 0 < shared <= len(public)


def kept(gateway: Attacked, key: str) -> str:
    body = asking("/v1/responses", "Remember the colour blue.", store=True)
    return str(gateway.post("/v1/responses", body, key=key).json()["id"])


def test_a_kept_response_is_nobody_else_s(elsewhere: Attacked) -> None:
    owner = elsewhere.key("acme")
    identity = kept(elsewhere, owner)
    unknown = f"resp_{'0' * 32}"
    assert elsewhere.ask("GET", f"/v1/responses/{identity}", key=owner).status == 200
    for tenant in ("other", "ACME", "acme2", "owner"):
        key = elsewhere.key(tenant, role="admin")
        for method, path in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
            refused = elsewhere.ask(method, f"/v1/responses/{identity}{path}", key=key)
            missing = elsewhere.ask(method, f"/v1/responses/{unknown}{path}", key=key)
            assert (refused.status, refused.text) == (missing.status, missing.text)
            assert refused.status == 404
        going_on = asking("/v1/responses", previous_response_id=identity)
        assert elsewhere.post("/v1/responses", going_on, key=key).status == 404
    assert elsewhere.ask("GET", f"/v1/responses/{identity}", key=owner).status == 200


def test_one_request_id_of_two_tenants_mixes_nothing(elsewhere: Attacked) -> None:
    anna, bert = elsewhere.key("anna"), elsewhere.key("bert")
    made = {}
    for name, key in (("anna", anna), ("bert", bert)):
        body = asking("/v1/responses", f"I am {name}.", store=True)
        made[name] = elsewhere.post("/v1/responses", body, ("x-request-id", "same"), key=key).json()

    assert made["anna"]["id"] != made["bert"]["id"]
    for key, other in ((anna, "bert"), (bert, "anna")):
        assert elsewhere.ask("GET", f"/v1/responses/{made[other]['id']}", key=key).status == 404


@pytest.mark.parametrize("route", ROUTES)
def test_answers_are_not_kept_for_other_callers_by_anything_between(
    elsewhere: Attacked, route: str
) -> None:
    """A cache before us must not give one caller's answer to another."""
    key = elsewhere.key()
    for stream in (False, True):
        reply = elsewhere.post(route, asking(route, stream=stream), key=key)
        assert "public" not in reply.headers.get("cache-control", "")
    kept_one = elsewhere.ask("GET", f"/v1/responses/{kept(elsewhere, key)}", key=key)
    assert kept_one.status == 200
    assert "public" not in kept_one.headers.get("cache-control", "")
