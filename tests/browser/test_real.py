"""The chat page on the real server with the real model, as a person walks through it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import pytest_asyncio

from tests.browser.conftest import Profiles
from tests.browser.real import LLAMAS, UNREACHABLE, endless, exactly, patience
from tests.browser.support import ATTACKS, PHONE, Chat, Route, expect, findings
from tests.e2e.harness import (
    ALPACA,
    CAPITAL,
    DIALOGUE,
    INSTRUCT,
    PARIS,
    RAW,
    shared_server,
)
from tests.support.web import why_no_packages

__all__ = ["patience"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest_asyncio.fixture(loop_scope="session")
async def url(request: pytest.FixtureRequest) -> str:
    """The address of the real server, in place of a scripted one's."""
    return (await asyncio.to_thread(shared_server, request.config)).url


def running(url: str) -> int:
    """Requests that the engines work on."""
    engines = httpx.get(url + "/admin/models", timeout=30).json()["data"]
    return sum(int(engine["requests"]["running"]) for engine in engines)


async def test_a_first_chat_its_versions_and_its_branches(chat: Chat) -> None:
    await exactly(chat)
    await chat.ask(CAPITAL, PARIS)
    facts = chat.answers.last.locator(".facts")
    await expect(facts).to_contain_text("8 tokens")
    await expect(facts).to_contain_text("s to the first word")
    await expect(chat.chats).to_have_text([CAPITAL])
    await chat.button("Answer again").click()
    versions = chat.answers.first.get_by_role("group", name="Versions")
    await expect(versions).to_contain_text("2/2")
    await chat.ended()
    await expect(chat.said).to_have_text([PARIS])
    await chat.ask("And of Italy?")
    mine = chat.page.locator("article.user").first
    await (await chat.hover(mine, "Edit")).click()
    await mine.get_by_role("textbox", name="Edit").fill(CAPITAL.replace("France", "Italy"))
    await chat.page.keyboard.press("Enter")
    await expect(chat.said).to_have_count(1)
    await expect(chat.said).to_contain_text("Rome")
    await chat.ended()
    await mine.get_by_role("button", name="Previous version").click()
    await expect(chat.mine).to_have_text([CAPITAL, "And of Italy?"])
    await chat.page.reload()
    await expect(chat.mine).to_have_text([CAPITAL, "And of Italy?"])
    await expect(chat.said.first).to_have_text(PARIS)
    await expect(versions).to_contain_text("2/2")


async def test_the_prompt_that_was_answered(chat: Chat) -> None:
    await exactly(chat)
    await chat.ask(CAPITAL, PARIS)
    await (await chat.hover(chat.answers.first, "Show the prompt")).click()
    shown = await chat.page.get_by_test_id("prompt").text_content()
    assert shown is not None
    assert shown.endswith(f"<|im_start|>user\n{CAPITAL}<|im_end|>\n<|im_start|>assistant\n")
    answer = await chat.page.request.post(
        chat.url + "/v1/chat/completions/render",
        data={"model": INSTRUCT, "messages": [{"role": "user", "content": CAPITAL}]},
    )
    rendered = await answer.json()
    assert shown == rendered["prompt"]
    await chat.button("Tokens").click()
    ids = await chat.page.get_by_test_id("tokens").locator(".id").all_inner_texts()
    assert [int(number) for number in ids] == rendered["prompt_token_ids"]


async def test_stop_frees_the_engine(chat: Chat) -> None:
    await endless(chat)
    assert await asyncio.to_thread(running, chat.url) == 1
    await chat.button("Stop").click()
    await chat.ended()
    await expect(chat.answers.last).to_contain_text("Stopped")
    async with asyncio.timeout(30):
        while await asyncio.to_thread(running, chat.url):  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.1)
    said = await chat.said.inner_text()
    await chat.page.reload()
    await expect(chat.said).to_have_text(said)


async def test_parameters_reach_the_model(chat: Chat) -> None:
    shown = await chat.panel()
    await expect(shown.get_by_role("textbox", name="Temperature")).to_have_attribute(
        "placeholder", "0.2"
    )
    await chat.set_number("Temperature", "1.5")
    await chat.set_number("Seed", "42")
    await chat.set_number("Max tokens", "12")
    async with chat.page.expect_request("**/v1/chat/completions") as asked:
        await chat.ask("Tell a story")
    body = (await asked.value).post_data_json
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (1.5, 42, 12)
    await expect(chat.answers.last).to_contain_text("12 tokens")
    first = await chat.said.inner_text()
    await chat.button("Answer again").click()
    await expect(chat.answers.get_by_role("group", name="Versions")).to_contain_text("2/2")
    await chat.ended()
    await expect(chat.said).to_have_text(first)  # the same dice
    stop = chat.page.get_by_role("textbox", name="Stop strings")
    await stop.fill(first.split()[2])
    await stop.blur()
    await chat.button("Answer again").click()
    await expect(chat.answers.get_by_role("group", name="Versions")).to_contain_text("3/3")
    await chat.ended()
    assert (await chat.said.inner_text()).split() == first.split()[:2]


async def test_another_stage_of_the_weights(chat: Chat) -> None:
    await exactly(chat, tokens=8)
    await chat.button(f"Model: {INSTRUCT}").click()
    await chat.page.get_by_role("menuitemradio", name=RAW).click()
    await chat.ask("The capital of France is")
    await expect(chat.answers.last.locator(".model")).to_have_text(RAW)
    await expect(chat.said).to_contain_text("Paris")


async def test_attacks_stay_text_whoever_writes_them(chat: Chat) -> None:
    attack = "\n\n".join(ATTACKS)

    async def say_it(route: Route) -> None:
        """Have the model itself answer with nothing but the attack."""
        body = route.request.post_data_json | {"structured_outputs": {"choice": [attack]}}
        await route.continue_(post_data=body)

    await chat.page.route("**/v1/chat/completions", say_it)
    await chat.ask(attack)
    await expect(chat.said).to_contain_text("<script>window.hit = 1</script>")
    for _ in range(2):
        await chat.page.wait_for_timeout(300)
        assert await chat.page.evaluate("window.hit") is None
        assert await chat.mine.inner_text() == attack
        written = chat.said.last
        await expect(written).to_contain_text("constructor.constructor('window.hit=11')")
        assert await written.locator("script, img, iframe, style, svg[onload]").count() == 0
        assert await written.locator("a[href^='javascript' i]").count() == 0
        await chat.page.reload()
        await expect(chat.said).to_contain_text("window.hit = 1")


async def test_profiles_are_apart(profile: Profiles) -> None:
    mine: Chat = await profile()
    other: Chat = await profile()
    await mine.open()
    await exactly(mine, tokens=4)
    await mine.ask("My secret")
    await other.open(mine.page.url.removeprefix(mine.url))
    await expect(other.page.get_by_text("There is no such chat.")).to_be_visible()
    await expect(other.page.get_by_text("Your chats will be here.")).to_be_visible()


async def test_four_stages_side_by_side(chat: Chat) -> None:
    await chat.page.get_by_role("link", name="Compare").click()
    columns = [
        chat.page.get_by_role("region", name=name, exact=True)
        for name in (INSTRUCT, RAW, DIALOGUE, ALPACA)
    ]
    for column in columns:
        await expect(column).to_be_visible()
    await chat.button("Parameters").click()
    await chat.set_number("Temperature", "0")
    await chat.set_number("Max tokens", "24")
    box = chat.page.get_by_placeholder("Ask all of them")
    await box.fill(LLAMAS)
    await box.press("Enter")
    for column in columns:
        await expect(column.locator(".facts")).to_contain_text("tokens read")
    await expect(chat.button("Stop")).to_have_count(0)
    said = {await column.locator(".prose").inner_text() for column in columns}
    assert len(said) == 4, "each has its own prompt"


async def test_a_machine_without_a_network(chat: Chat) -> None:
    await exactly(chat)
    await chat.ask(CAPITAL, PARIS)
    await chat.page.context.set_offline(True)
    await chat.write("And of Italy?")
    banner = chat.page.get_by_text(UNREACHABLE)
    await expect(banner).to_be_visible()
    await expect(chat.box).to_have_value("And of Italy?")
    await expect(chat.said).to_have_text([PARIS])
    await chat.page.context.set_offline(False)
    await expect(banner).to_have_count(0)
    await chat.box.press("Enter")
    await expect(chat.said).to_have_count(2)
    await chat.ended()
    chat.errors.clear()  # the browser's own lines


@pytest.mark.skipif(why_no_packages() != "", reason=why_no_packages())
@pytest.mark.parametrize("settings", [{}, PHONE], ids=["desktop", "phone"])
async def test_axe_finds_nothing(settings: dict[str, object], profile: Profiles) -> None:
    chat: Chat = await profile(**settings, reduced_motion="reduce")
    await chat.open()
    await chat.box.fill(CAPITAL)
    await chat.button("Send").click()
    await expect(chat.answers).to_have_count(1)
    await chat.ended()
    assert await findings(chat) == []
    assert await chat.page.evaluate(
        "document.documentElement.scrollWidth === document.documentElement.clientWidth"
    )
    for path in ("/compare", "/herd", "/settings"):
        await chat.open(path)
        await expect(chat.page.get_by_role("heading", level=1)).to_be_visible()
        if path == "/herd":
            await expect(chat.page.locator("section.card")).to_have_count(1)
        await chat.page.wait_for_timeout(300)  # until it has faded in
        assert await findings(chat) == []
