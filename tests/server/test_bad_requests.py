"""Whatever arrives, the answer is a 4xx in OpenAI's shape that says what to change."""

import json
import socket
import struct
from collections.abc import Iterator

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving import Serving, serving
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.server.settings import ServerSettings

CHAT = "/v1/chat/completions"
GOOD = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
LIMITS = ServerSettings(port=0, max_body_bytes=4096, drain_seconds=0)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(ScriptedBackend(), settings=LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=20) as client:
        yield client


def post(client: httpx2.Client, body: bytes | str, **headers: str) -> httpx2.Response:
    content = body.encode() if isinstance(body, str) else body
    named = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return client.post(CHAT, content=content, headers=named)


def error_of(response: httpx2.Response) -> dict[str, str | None]:
    body = response.json()

    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    error: dict[str, str | None] = body["error"]
    return error


BAD_BODIES = {
    b"": "not valid JSON",
    b"{": "line 1 column 2",
    b'{"model": "scripted",}': "not valid JSON",
    b"[1, 2]": "must be a JSON object",
    b'"text"': "must be a JSON object",
    b'{"model": NaN}': "NaN",
    b'{"temperature": -Infinity}': "Infinity",
    b'{"model": "\xff"}': "not UTF-8: bad byte at offset 11",
    b'{"model": "\\ud800"}': "surrogate",
    b'{"model": "scripted", "messages": [], "seed": ' + b"9" * 3500 + b"}": "seed",
    b'{"model": "a", "model": "b"}': "'model' twice",
    b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}": "deeper than 32",
    b"[" * 3000: "deeper than 32",
}


@pytest.mark.parametrize(("body", "says"), BAD_BODIES.items())
def test_a_body_that_is_no_good_json_is_400(client: httpx2.Client, body: bytes, says: str) -> None:
    response = post(client, body)

    assert response.status_code == 400
    assert says in str(error_of(response)["message"])


BAD_PARAMETERS = [
    ({"temprature": 1}, "temprature", "Did you mean 'temperature'?"),
    ({"max_tokns": 1}, "max_tokns", "Did you mean 'max_tokens'?"),
    ({"wibble": 1}, "wibble", "Leave it out"),
    ({"messages": None}, "messages", "valid list"),
    ({"messages": []}, "messages", "at least 1"),
    ({"messages": "hi"}, "messages", "valid list"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "'robot'"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "valid string"),
    ({"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages[0].mood", "Unknown"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content",
        "image_url",
    ),
    ({"max_tokens": -1}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": 1.5}, "max_tokens", "valid integer"),
    ({"max_tokens": "5"}, "max_tokens", "valid integer"),
    ({"max_tokens": 2**70}, "max_tokens", "less than"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, None, "differ"),
    ({"temperature": 3}, "temperature", "less than or equal to 2"),
    ({"temperature": True}, "temperature", "valid number"),
    ({"top_p": 0}, "top_p", "greater than 0"),
    ({"top_k": -2}, "top_k", "greater than"),
    ({"seed": 2**64}, "seed", "less than"),
    ({"stop": ""}, "stop", "1 to 256"),
    ({"stop": ["x"] * 17}, "stop", "at most 16"),
    ({"stop": {"a": 1}}, "stop", "list of strings"),
    ({"stream": "yes"}, "stream", "valid boolean"),
    ({"stream_options": {"include_usage": True}}, None, "stream = true"),
    ({"logprobs": 3}, "logprobs", "valid boolean"),
    ({"top_logprobs": 3}, None, "logprobs = true"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": 17}, "n", "less than or equal to 16"),
    ({"best_of": 2}, "best_of", "not supported"),
    ({"echo": True}, "echo", "not supported"),
    ({"tools": [{"type": "function"}]}, "tools", "tool 0 must be"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "not supported"),
    ({"tool_choice": "required"}, "tool_choice", "only allowed with tools"),
    ({"response_format": {"type": "xml"}}, "response_format", "one of"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "one of"),
    ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
    ({"presence_penalty": 2.5}, "presence_penalty", "less than or equal to 2"),
    ({"frequency_penalty": -3}, "frequency_penalty", "greater than or equal to -2"),
    ({"repetition_penalty": 0}, "repetition_penalty", "greater than or equal to 0.01"),
    ({"min_tokens": -1}, "min_tokens", "greater than or equal to 0"),
    ({"logit_bias": {"1": 101}}, "logit_bias", "token 1 must be a number from -100 to 100"),
    ({"logit_bias": {"1": True}}, "logit_bias", "token 1 must be a number"),
    ({"logit_bias": {"07": 1}}, "logit_bias", "'07' is not a token id"),
    ({"logit_bias": {"the": 1}}, "logit_bias", "'the' is not a token id"),
    ({"logit_bias": {"-1": 1}}, "logit_bias", "'-1' is not a token id"),
    ({"logit_bias": [1]}, "logit_bias", "must be an object"),
    ({"chat_template_kwargs": []}, "chat_template_kwargs", "must be an object"),
    ({"chat_template_kwargs": {"tools": 1}}, "chat_template_kwargs", "'tools' is not for"),
    ({"chat_template_kwargs": {"x": [1]}}, "chat_template_kwargs", "'x' must be a boolean"),
    ({"chat_template_kwargs": {"x": "y" * 257}}, "chat_template_kwargs", "'x' must be"),
    (
        {"chat_template_kwargs": {f"x{n}": True for n in range(17)}},
        "chat_template_kwargs",
        "at most 16",
    ),
    ({"priority": 11}, "priority", "less than or equal to 10"),
    ({"priority": -11}, "priority", "greater than or equal to -10"),
    ({"priority": 0.5}, "priority", "valid integer"),
    ({"deadline_s": 0}, "deadline_s", "greater than 0"),
    ({"deadline_s": "1"}, "deadline_s", "valid number"),
    ({"service_tier": "gold"}, "service_tier", "must be one of auto, default"),
    ({"public_prefix": -1}, "public_prefix", "greater than or equal to 0"),
    ({"public_prefix": 2}, None, "public_prefix is 2, but there are only 1 messages"),
    ({"model": ""}, "model", "at least 1"),
    ({"model": 7}, "model", "valid string"),
]


@pytest.mark.parametrize(("change", "param", "says"), BAD_PARAMETERS)
def test_a_bad_parameter_is_400_and_named(
    client: httpx2.Client, change: dict[str, object], param: str | None, says: str
) -> None:
    response = post(client, json.dumps(GOOD | change))
    error = error_of(response)

    assert response.status_code == 400
    assert error["param"] == param
    assert says in str(error["message"])


@pytest.mark.parametrize(
    "neutral",
    [
        {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "tools": []},
        {"n": None, "repetition_penalty": None, "logit_bias": None, "min_tokens": 0, "echo": False},
        {"response_format": {"type": "text"}, "tool_choice": "none", "best_of": None},
        {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "store": False},
        {"priority": None, "deadline_s": None, "service_tier": None},
        {"max_tokens": None, "temperature": None, "stop": None, "stream": None, "seed": None},
        {"messages": [{"role": "assistant", "content": "x", "refusal": None, "tool_calls": []}]},
    ],
)
def test_parameters_that_ask_for_nothing_pass(
    client: httpx2.Client, neutral: dict[str, object]
) -> None:
    assert post(client, json.dumps(GOOD | neutral)).status_code == 200


def test_an_unknown_model_is_404_and_names_those_served(client: httpx2.Client) -> None:
    response = post(client, json.dumps(GOOD | {"model": "script"}))

    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"
    assert "Did you mean 'scripted'" in str(error_of(response)["message"])


def test_prompts_that_completions_cannot_take_are_400(client: httpx2.Client) -> None:
    for prompt in (["a", "b"], [-1], [1.5], {"a": 1}, None, [[1], [2]]):
        body = {"model": "scripted", "prompt": prompt}
        response = client.post("/v1/completions", json=body)

        assert response.status_code == 400, prompt
        assert error_of(response)["param"] == "prompt"
    nothing = {"model": "scripted", "prompt": "", "max_tokens": 0}
    answered = client.post("/v1/completions", json=nothing)

    assert answered.status_code == 400
    assert "only allowed with echo" in str(error_of(answered)["message"])


def test_paths_and_methods_that_do_not_exist_are_404_and_405(client: httpx2.Client) -> None:
    nowhere, wrong = client.get("/v1/nothing"), client.get(CHAT)

    assert (nowhere.status_code, wrong.status_code) == (404, 405)
    assert "GET /v1/nothing" in str(error_of(nowhere)["message"])
    assert wrong.headers["allow"] == "POST"
    assert error_of(wrong)["code"] == "method_not_allowed"


def test_only_json_is_accepted(client: httpx2.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        assert post(client, json.dumps(GOOD), content_type=kind).status_code == 415
    assert (
        post(client, json.dumps(GOOD), content_type="Application/JSON; charset=utf-8").status_code
        == 200
    )


def test_a_body_over_the_limit_is_413_announced_or_not(client: httpx2.Client) -> None:
    large = json.dumps(GOOD | {"user": "x" * 5000}).encode()

    def pieces() -> Iterator[bytes]:
        yield from (large[start : start + 100] for start in range(0, len(large), 100))

    announced = post(client, large)
    chunked = client.post(CHAT, content=pieces(), headers={"content-type": "application/json"})

    assert announced.status_code == chunked.status_code == 413
    assert "4096" in str(error_of(announced)["message"])
    assert error_of(chunked)["code"] == "body_too_large"


def test_pages_and_names_from_elsewhere_are_refused(server: Serving, client: httpx2.Client) -> None:
    own = server.url.removeprefix("http://")

    assert client.get("/v1/models", headers={"origin": server.url}).status_code == 200
    assert client.get("/v1/models", headers={"host": f"localhost:{own.split(':')[1]}"}).is_success
    for origin in (
        "https://evil.example",
        "null",
        f"{server.url}.evil.example",
        "http://localhost",
    ):
        refused = client.get("/v1/models", headers={"origin": origin})
        assert refused.status_code == 403
        assert error_of(refused)["code"] == "origin_not_allowed"
    for host in ("evil.example", "127.0.0.1.evil.example", f"evil.example:{own.split(':')[1]}"):
        refused = client.get("/health", headers={"host": host})
        assert refused.status_code == 403
        assert error_of(refused)["code"] == "host_not_allowed"


def test_a_configured_page_elsewhere_may_call() -> None:
    settings = ServerSettings(port=0, drain_seconds=0, allowed_origins=("https://a.example",))

    with (
        serving(ScriptedBackend(), settings=settings) as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        asked = client.options(
            CHAT,
            headers={"origin": "https://a.example", "access-control-request-method": "POST"},
        )
        refused = client.post(CHAT, content="x", headers={"origin": "https://a.example"})
        answered = client.post(CHAT, json=GOOD, headers={"origin": "https://a.example"})

    assert asked.status_code == 204
    assert "POST" in asked.headers["access-control-allow-methods"]
    # The official client sends headers of its own, and a page must be able to read what was wrong.
    assert asked.headers["access-control-allow-headers"] == "authorization, *"
    assert refused.status_code == 415
    assert refused.headers["access-control-allow-origin"] == "https://a.example"
    assert answered.headers["access-control-allow-origin"] == "https://a.example"


def test_request_ids_are_kept_if_sane_and_made_if_not(client: httpx2.Client) -> None:
    kept = client.get("/health", headers={"x-request-id": "abc-123"})
    made = client.get("/health", headers={"x-request-id": "no spaces, please"})
    card = client.get("/health", headers={"x-request-id": "4111111111111111"})

    assert kept.headers["x-request-id"] == "abc-123"
    assert made.headers["x-request-id"].isalnum()
    assert card.headers["x-request-id"] != "4111111111111111"


def test_bytes_that_are_no_http_do_not_hurt(server: Serving, client: httpx2.Client) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"\x16\x03\x01\x00\xff garbage\r\n\r\n")
        connection.recv(1000)

    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "begin",
    [
        "GET /",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX: ",
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
    ids=["line", "headers", "trailers"],
)
def test_a_head_without_end_is_cut_off(server: Serving, begin: str) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    flood = begin.encode() + b"x" * 16_000_000
    with (
        socket.create_connection((host, int(port)), timeout=20) as connection,
        pytest.raises(ConnectionError),
    ):
        connection.sendall(flood)


def test_clients_that_hang_up_at_once_are_no_errors(
    server: Serving, client: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(GOOD)
    head = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    request = f"POST {CHAT} HTTP/1.1\r\n{head}\r\n\r\n{body}".encode()
    for _ in range(50):
        connection = socket.create_connection((host, int(port)), timeout=5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(request * 3)
        connection.close()

    assert client.get("/health").status_code == 200
    assert [record for record in caplog.records if record.name.startswith("tokenworks")] == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
names = st.sampled_from(["model", "messages", "max_tokens", "stop", "seed", "tools", "n", "x"])


@given(changes=st.dictionaries(names, json_values, max_size=4))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_json_object_is_ever_a_server_error(
    client: httpx2.Client, changes: dict[str, object]
) -> None:
    response = post(client, json.dumps(GOOD | changes))

    assert response.status_code in (200, 400, 404, 413)
    if response.status_code != 200:
        error_of(response)
