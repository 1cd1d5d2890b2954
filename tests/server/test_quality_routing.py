"""One name for two models: a trained router chooses, through the real server, after all rules."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from judged_prompts import easy, hard, trained
from serving import Serving, serving
from tokenworks.accounts.books import Books, opened
from tokenworks.accounts.keys import NewKey
from tokenworks.accounts.usage import usage
from tokenworks.errors import ConfigError
from tokenworks.gateway.policies import PolicyFile
from tokenworks.gateway.quality.files import save
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

BACKEND = """
[[backends]]
name = "{name}"
url = "{url}"
tier = "{tier}"
clearance = "{clearance}"
models = {{ {model} = "their-model" }}
allow_private = true
prices = {{ input = "1.00", output = "2.00" }}
"""
QUALITY = '[quality]\nrouter = "router.bin"\nquality = 1.0\n'


@pytest.fixture
def near() -> Iterator[UpstreamServer]:
    with upstream_server(script=Script(pieces=("weak",))) as server:
        yield server


@pytest.fixture
def far() -> Iterator[UpstreamServer]:
    with upstream_server(script=Script(pieces=("strong",))) as server:
        yield server


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    with opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as found:
        yield found


def weak(server: UpstreamServer, clearance: str = "secret") -> str:
    return BACKEND.format(
        name="rack", url=server.url, tier="site", clearance=clearance, model="Small"
    )


def strong(server: UpstreamServer, clearance: str = "internal") -> str:
    return BACKEND.format(
        name="cloud", url=server.url, tier="cloud", clearance=clearance, model="large"
    )


@contextmanager
def choosing(
    folder: Path, *backends: str, policies: str = QUALITY, books: Books | None = None
) -> Iterator[Serving]:
    save(trained(), folder / "router.bin")
    path = folder / "policies.toml"
    path.write_text(policies + "".join(backends))
    with serving(policies=PolicyFile(path), books=books) as server:
        yield server


def key_for(books: Books, **more: Any) -> str:
    return asyncio.run(books.keys.create(NewKey(tenant="acme", **more), actor="test")).text


def ask(server: Serving, text: str, *, key: str = "none", **more: Any) -> httpx2.Response:
    return httpx2.post(
        f"{server.url}/v1/chat/completions",
        json={"model": "auto", "messages": [{"role": "user", "content": text}], **more},
        headers={"authorization": f"Bearer {key}", "x-request-id": "asked"},
    )


def said(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def seen(server: UpstreamServer) -> str:
    return "".join(one.raw.decode() for one in server.asked if one.method == "POST")


def route_of(server: Serving, admin: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {admin}"}
    requests = f"{server.url}/admin/requests"
    newest = httpx2.get(requests, headers=headers).json()["data"][0]["request_id"]
    record = httpx2.get(f"{requests}/{newest}/route", headers=headers).json()
    assert record["status"] == "answered"
    return {**record["route"], "answered_by": record["model"], "backend": record["backend"]}


def test_easy_prompts_go_to_the_weak_model_and_hard_ones_to_the_strong(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    with choosing(tmp_path, weak(near), strong(far)) as server:
        for seed in range(700, 710):
            assert said(ask(server, easy(seed))) == "weak"
            assert said(ask(server, hard(seed))) == "strong"
        assert said(ask(server, hard(1), model="AUTO")) == "strong"
        assert said(ask(server, hard(1), model="small")) == "weak"  # by its own name


def test_an_official_client_streams_from_whichever_is_chosen(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    with (
        choosing(tmp_path, weak(near), strong(far)) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        for text, wanted in ((easy(5), "weak"), (hard(5), "strong")):
            events = client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": text}], stream=True
            )
            assert "".join(event.choices[0].delta.content or "" for event in events) == wanted
            answer = client.responses.create(model="auto", input=text)
            assert answer.output_text == wanted
        assert "auto" in {model.id for model in client.models.list()}
        assert client.models.retrieve("auto").id == "auto"


@pytest.mark.parametrize("label", ["private", "secret"])
def test_a_private_prompt_never_reaches_a_strong_model_in_a_cloud(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, books: Books, label: str
) -> None:
    admin = key_for(books, role="admin")
    mail = f"{hard(3)} Send it to ada.lovelace@example.org."
    with choosing(tmp_path, weak(near), strong(far), books=books) as server:
        for _ in range(3):
            assert said(ask(server, mail, key=admin)) == "weak"
        headers = {"authorization": f"Bearer {admin}", "x-tokenworks-label": label}
        body = {"model": "auto", "messages": [{"role": "user", "content": hard(4)}]}
        url = f"{server.url}/v1/chat/completions"
        assert said(httpx2.post(url, json=body, headers=headers)) == "weak"
        near.script = Script(fault="reset")  # not even where nobody else is left
        assert httpx2.post(url, json=body, headers=headers).status_code >= 400
        assert ask(server, mail, key=admin).status_code >= 400
    assert far.asked == []


def test_why_a_model_was_chosen_can_be_asked(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, books: Books
) -> None:
    admin = key_for(books, role="admin")
    with choosing(tmp_path, weak(near), strong(far), books=books) as server:
        said(ask(server, hard(3), key=admin))
        up = route_of(server, admin)
        said(ask(server, f"{hard(3)} Send it to ada.lovelace@example.org.", key=admin))
        instead = route_of(server, admin)
    assert (up["answered_by"], up["backend"]) == ("large", "cloud")
    told = up["quality"]
    assert (told["asked_for"], told["model"], told["quality"]) == ("auto", "large", 1.0)
    assert told["chances"]["large"] - told["chances"]["small"] >= told["threshold"]
    assert "instead_of" not in told
    assert (instead["answered_by"], instead["backend"]) == ("Small", "rack")
    assert instead["quality"]["instead_of"]["model"] == "large"
    ruled_out = instead["quality"]["instead_of"]["ruled_out"]
    assert ("cloud", "label") in {(one["backend"], one["rule"]) for one in ruled_out}
    assert "no backend that has 'large' may answer" in instead["quality"]["why"]
    assert "lovelace" not in str(instead)


def test_the_other_model_answers_where_the_chosen_one_cannot(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    with choosing(tmp_path, strong(far)) as server:  # nobody serves the weak one
        assert said(ask(server, easy(1))) == "strong"
    with choosing(tmp_path, weak(near)) as server:
        assert said(ask(server, hard(1))) == "weak"
    dear = strong(far) + "\n[routing]\nmost_money = 0.0001\n"
    cheap = weak(near).replace('"1.00", output = "2.00"', '"0.00", output = "0.00"')
    with choosing(tmp_path, cheap, dear) as server:
        assert said(ask(server, hard(1), max_tokens=200)) == "weak"
    with choosing(tmp_path, weak(near, "public"), strong(far, "public")) as server:
        refused = ask(server, hard(1))
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "label_not_allowed"


def test_what_cannot_be_masked_for_the_strong_model_goes_to_the_weak_one(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    more = 'abilities = ["tools"]\n'
    policies = QUALITY + '[labels]\nmask = ["phone"]\n'
    tool = {"type": "function", "function": {"name": "f", "parameters": {"const": 13812345678}}}
    both = (weak(near) + more, strong(far) + more)
    with choosing(tmp_path, *both, policies=policies) as server:
        assert said(ask(server, f"{hard(1)} Call +44 20 7946 0958.")) == "strong"  # masked
        assert "7946" not in seen(far)
        assert said(ask(server, hard(1), tools=[tool])) == "weak"
    assert "13812345678" not in seen(far)


def test_a_key_must_be_allowed_the_name_and_gets_what_it_stands_for(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, books: Books
) -> None:
    both = (weak(near), strong(far))
    alias, small = key_for(books, models=("auto",)), key_for(books, models=("small", "large"))
    with choosing(tmp_path, *both, books=books) as server:
        assert said(ask(server, hard(1), key=alias)) == "strong"
        assert said(ask(server, easy(1), key=alias)) == "weak"
        assert ask(server, easy(1), key=alias, model="large").status_code == 403
        assert ask(server, easy(1), key=small).status_code == 403
        assert said(ask(server, easy(1), key=small, model="large")) == "strong"


def test_the_books_name_the_model_that_answered(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, books: Books
) -> None:
    key = key_for(books)
    with choosing(tmp_path, weak(near), strong(far), books=books) as server:
        said(ask(server, easy(1), key=key))
        said(ask(server, hard(1), key=key))
        said(ask(server, hard(2), key=key))
    rows = books.database.read_now(lambda transaction: usage(transaction, by=("model",)))
    assert {row.group["model"]: row.requests for row in rows} == {"Small": 1, "large": 2}


def test_a_router_is_changed_while_it_runs_and_a_bad_one_changes_nothing(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, books: Books
) -> None:
    admin = {"authorization": f"Bearer {key_for(books, role='admin')}"}
    router, path = tmp_path / "router.bin", tmp_path / "policies.toml"
    with choosing(tmp_path, weak(near), strong(far), books=books) as server:

        def reload() -> httpx2.Response:
            return httpx2.post(f"{server.url}/admin/policies/reload", headers=admin, json={})

        def answers(text: str) -> str:
            return said(ask(server, text, key=admin["authorization"][7:]))

        whole = router.read_bytes()
        router.write_bytes(whole[:-1])
        for _ in range(2):  # also where it was seen before
            refused = reload()
            assert refused.status_code == 400
            assert "is damaged" in refused.text
            assert "router.bin" in refused.text
        assert answers(hard(1)) == "strong"
        assert answers(easy(1)) == "weak"

        router.write_bytes(whole)
        assert reload().status_code == 200
        text = path.read_text()
        path.write_text(text.replace("quality = 1.0", "quality = 1.5"))
        assert "quality.quality" in reload().text
        assert answers(easy(1)) == "weak"

        path.write_text(text.replace("router.bin", "none.bin"))
        assert "none.bin" in reload().text
        assert answers(hard(1)) == "strong"

        # Without the table, the name is gone.
        path.write_text(text.replace(QUALITY, ""))
        assert reload().json() == {"changed": True}
        assert ask(server, easy(1), key=admin["authorization"][7:]).status_code == 404
        listed = httpx2.get(f"{server.url}/v1/models", headers=admin).json()["data"]
        assert {model["id"] for model in listed} == {"Small", "large"}


def test_a_router_that_was_trained_again_holds_without_a_change_of_the_policies(
    tmp_path: Path,
) -> None:
    save(trained(), tmp_path / "router.bin")
    path = tmp_path / "policies.toml"
    path.write_text(QUALITY)
    file = PolicyFile(path)
    assert file.chooser is not None
    assert file.news() is None

    os.utime(tmp_path / "router.bin", (1, 1))  # the same router, written again
    assert file.news() is None
    before = file.chooser
    save(trained(0.9), tmp_path / "router.bin")
    news = file.news()
    assert news is not None
    assert file.chooser == before  # until somebody takes it
    file.take(news)
    assert file.chooser != before


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ("[quality]\n", "router"),
        ('[quality]\nrouter = ""\n', "router is empty"),
        ('[quality]\nrouter = "r"\nmodel = ""\n', "no name of a model"),
        ('[quality]\nrouter = "r"\nqualty = 1\n', "qualty"),
        ('[quality]\nrouter = "none"\n', "'.*none' cannot be read"),
        (QUALITY + "[routing]\nobjective = 'quality'\n", "cost does not count"),
        (QUALITY.replace("quality = 1.0", 'model = "small"'), "three names"),
    ],
)
def test_a_table_that_does_not_hold_is_refused_by_name(
    tmp_path: Path, policies: str, said: str
) -> None:
    save(trained(), tmp_path / "router.bin")
    (tmp_path / "policies.toml").write_text(policies)
    with pytest.raises(ConfigError, match=said):
        PolicyFile(tmp_path / "policies.toml")


def test_the_name_must_not_be_a_model_s(tmp_path: Path, near: UpstreamServer) -> None:
    save(trained(), tmp_path / "router.bin")
    path = tmp_path / "policies.toml"
    path.write_text(QUALITY + weak(near).replace("Small", "Auto"))
    with pytest.raises(ConfigError, match="serves 'auto' already"):
        PolicyFile(path)


def test_the_answer_says_which_model_answered(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    with choosing(tmp_path, weak(near), strong(far)) as server:
        for text, name in ((easy(1), "Small"), (hard(1), "large")):
            assert ask(server, text).json()["model"] == name
            assert f'"model":"{name}"' in ask(server, text, stream=True).text
            bodies = {
                "completions": {"prompt": text},
                "responses": {"input": text},
                "messages": {"max_tokens": 9, "messages": [{"role": "user", "content": text}]},
            }
            for path, body in bodies.items():
                answer = httpx2.post(f"{server.url}/v1/{path}", json={"model": "auto", **body})
                assert answer.json()["model"] == name, path
