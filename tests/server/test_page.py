"""The chat page in a real browser."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from serving import serving
from tokenworks.errors import EngineError
from tokenworks.gateway.backend import BackendStatus
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.server.settings import ServerSettings

ANSWER = ("Use `x`:\n\n```py", "thon\nprint('<b>hi</b>')\n", "```\n\n", "<img src=x>", " **Done**")


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "no chromium on this machine: make system-deps installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose every error of script or policy fails the test."""
    page = browser.new_page()
    page.set_default_timeout(15_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Content Security" in message.text else None
        ),
    )
    yield page
    page.close()

    assert complaints == []


def ask(page: Page, url: str, question: str = "Show me") -> None:
    page.goto(url)
    expect(page.locator("#state")).to_have_attribute("aria-label", "ready")
    page.get_by_label("Message").fill(question)
    page.keyboard.press("Enter")


def test_a_question_is_answered_as_safe_text(page: Page) -> None:
    with serving(ScriptedBackend(ANSWER, model="demo")) as server:
        ask(page, server.url)
        expect(page.locator(".facts")).to_contain_text("first token after")

    answer = page.locator(".turn.assistant")
    expect(answer.locator("pre code")).to_have_text("print('<b>hi</b>')")
    expect(answer.locator("p code")).to_have_text("x")
    expect(answer.locator("strong")).to_have_text("Done")
    expect(answer).to_contain_text("<img src=x>")
    expect(answer.locator("img, b")).to_have_count(0)
    expect(page.locator(".facts")).to_contain_text("5 tokens")


def test_the_conversation_is_sent_along_until_a_new_chat(page: Page) -> None:
    backend = ScriptedBackend(("Fine", "."))
    with serving(backend) as server:
        ask(page, server.url, "one")
        expect(page.locator(".facts")).to_have_count(1)
        page.get_by_label("Message").fill("two")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".facts")).to_have_count(2)
        page.get_by_role("button", name="New chat").click()
        expect(page.get_by_role("heading", name="What shall we talk about?")).to_be_visible()
        page.get_by_role("button", name="Explain how a rainbow forms").click()
        expect(page.locator(".facts")).to_have_count(1)

    said = [[m["content"] for m in request.messages or []] for request in backend.requests]
    assert said[:2] == [["one"], ["one", "Fine.", "two"]]
    assert len(said[2]) == 1


def test_the_stop_button_ends_the_work(page: Page) -> None:
    backend = ScriptedBackend(["word "] * 500, delay_s=0.02)
    with serving(backend) as server:
        ask(page, server.url)
        expect(page.locator(".turn.assistant")).to_contain_text("word")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        expect(page.locator(".notice")).to_have_count(0)
        for _ in range(200):
            if backend.closed_early:
                break
            page.wait_for_timeout(10)

        assert backend.closed_early == 1


def test_an_error_is_told_kindly_and_can_be_tried_again(page: Page) -> None:
    backend = ScriptedBackend(fault=EngineError("The engine is gone"))
    with serving(backend) as server:
        ask(page, server.url)
        expect(page.get_by_role("status")).to_contain_text("The engine is gone")
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("status")).to_contain_text("The engine is gone")

    assert backend.faults_fired == 2


def test_only_the_last_answer_can_be_tried_again(page: Page) -> None:
    with serving(ScriptedBackend(fault=EngineError("Gone"), fault_at=1)) as server:
        ask(page, server.url)
        expect(page.get_by_role("button", name="Try again")).to_have_count(1)
        page.get_by_label("Message").fill("Something else")
        page.keyboard.press("Enter")
        expect(page.locator(".notice")).to_have_count(2)
        expect(page.get_by_role("button", name="Try again")).to_have_count(1)


def test_a_silent_engine_that_restarts_is_explained(page: Page) -> None:
    class Restarting(ScriptedBackend):
        def status(self) -> BackendStatus:
            return BackendStatus(state="restarting" if self.requests else "ready")

    with serving(Restarting(("at ", "last"), delay_s=2.0)) as server:
        ask(page, server.url)
        expect(page.get_by_role("status")).to_contain_text("restarting")
        expect(page.locator(".turn.assistant .text")).to_have_text("at last")
        expect(page.locator(".notice")).to_have_count(0)


def test_a_key_is_asked_for_and_used(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a-very-secret-key")
    settings = ServerSettings(port=0, api_key_file=str(file), drain_seconds=0)
    with serving(ScriptedBackend(), settings=settings) as server:
        page.goto(server.url)
        page.get_by_label("This server asks for its key").fill("a-very-secret-key")
        page.get_by_role("button", name="Use key").click()
        expect(page.locator("#model")).to_have_value("scripted")
        page.get_by_label("Message").fill("hi")
        page.keyboard.press("Enter")
        expect(page.locator(".turn.assistant")).to_contain_text("Hello, world!")


def test_the_page_fits_a_phone(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 640})
    with serving(ScriptedBackend(["x" * 400, "\n```\n" + "y" * 400 + "\n```"])) as server:
        ask(page, server.url)
        expect(page.locator(".facts")).to_be_visible()
        width = page.evaluate("document.documentElement.scrollWidth")
    page.close()

    assert width <= 360


def test_the_page_comes_with_a_strict_policy() -> None:
    with serving(ScriptedBackend()) as server:
        response = httpx2.get(f"{server.url}/")

    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert "<script>" not in response.text
    assert "style=" not in response.text
