"""What is set about answers reaches the engine, and is kept."""

from __future__ import annotations

from tests.browser.support import Chat, echo, expect
from tests.support.ranch import Ranch


async def test_every_parameter_reaches_the_request(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.panel()
    for name, value in {
        "Temperature": "0.7",
        "Top p": "0.5",
        "Top k": "40",
        "Min p": "0.05",
        "Max tokens": "123",
        "Presence penalty": "0.5",
        "Frequency penalty": "-0.5",
        "Repetition penalty": "1.1",
        "Seed": "42",
    }.items():
        await chat.set_number(name, value)
    stop = chat.page.get_by_role("textbox", name="Stop strings")
    await stop.fill("\\n\\n\nUser:")
    await stop.blur()
    system = chat.page.get_by_role("textbox", name="System prompt")
    await system.fill("You are a llama.")
    await system.blur()
    await expect(chat.button("11 parameters set")).to_be_visible()
    async with chat.page.expect_request("**/v1/chat/completions") as asked:
        await chat.ask("Hi", "Answer 1.")
    body = (await asked.value).post_data_json
    assert body["messages"] == [
        {"role": "system", "content": "You are a llama."},
        {"role": "user", "content": "Hi"},
    ]
    sampling = ranch.request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.7, 0.5, 40)
    assert (sampling.min_p, sampling.max_tokens, sampling.seed) == (0.05, 123, 42)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert sampling.repetition_penalty == 1.1
    assert {"\n\n", "User:"} <= set(sampling.stop)


async def test_what_is_left_open_is_the_registrys(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    shown = await chat.panel()
    await expect(shown.get_by_role("textbox", name="Temperature")).to_have_attribute(
        "placeholder", "0.25"
    )
    await expect(shown.get_by_role("textbox", name="Max tokens")).to_have_attribute(
        "placeholder", "1000"
    )
    await chat.ask("Hi", "Answer 1.")
    assert ranch.request.sampling.temperature == 0.25
    assert ranch.request.sampling.max_tokens == 1000


async def test_wrong_values_are_named_and_not_sent(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.panel()
    await chat.set_number("Temperature", "3")
    await expect(chat.page.get_by_text("A number from 0 to 2.")).to_be_visible()
    await chat.ask("Hi", "Answer 1.")
    assert ranch.request.sampling.temperature == 0.25


async def test_they_belong_to_their_chat_and_outlive_a_reload(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.panel()
    await chat.set_number("Temperature", "1.5")
    await chat.ask("Hi", "Answer 1.")
    await chat.page.reload()
    await expect(chat.button("1 parameter set")).to_be_visible()
    await chat.ask("Again", "Answer 2.")
    assert ranch.request.sampling.temperature == 1.5
    await chat.page.get_by_role("link", name="New chat", exact=True).first.click()
    await chat.ask("Other", "Answer 3.")
    assert ranch.request.sampling.temperature == 0.25


async def test_presets_are_kept_and_chosen(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    shown = await chat.panel()
    await chat.set_number("Temperature", "1.5")
    await shown.get_by_role("button", name="Save as a preset").click()
    await shown.get_by_role("textbox", name="Name of the preset").fill("Wild")
    await shown.get_by_role("button", name="Save", exact=True).click()
    await expect(shown.get_by_role("combobox", name="Preset")).to_have_value("Wild")
    await chat.page.reload()
    shown = await chat.panel()
    await expect(shown.get_by_role("textbox", name="Temperature")).to_have_value("")
    await shown.get_by_role("combobox", name="Preset").select_option("Wild")
    await expect(shown.get_by_role("textbox", name="Temperature")).to_have_value("1.5")
    await chat.ask("Hi", "Answer 1.")
    assert ranch.request.sampling.temperature == 1.5
    await shown.get_by_role("button", name="Delete the preset Wild").click()
    await expect(shown.get_by_role("option", name="Wild")).to_have_count(0)


async def test_another_model_answers_when_it_is_chosen(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.ask("Hi", "Answer 1.")
    await chat.button("Model: shepherd").click()
    item = chat.page.get_by_role("menuitemradio", name="shepherd-raw")
    await expect(item).to_contain_text("Goes on with a text.")
    await expect(item).to_contain_text("2,048 tokens of context")
    await item.click()
    await chat.ask("Again", "Answer 2.")
    await expect(chat.answers.last.locator(".model")).to_have_text("shepherd-raw")
    # A base model gets the plain text.
    assert len(ranch.request.prompt_token_ids) < 30
    await chat.page.reload()
    await expect(chat.button("Model: shepherd-raw")).to_be_visible()


async def test_what_was_typed_is_kept_however_the_panel_is_closed(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.panel()
    system = chat.page.get_by_role("textbox", name="System prompt")
    await system.fill("You are a llama.")
    await chat.page.keyboard.press("Control+Period")
    await expect(chat.button("1 parameter set")).to_be_visible()
    await chat.panel()
    await chat.page.get_by_role("textbox", name="Top k", exact=True).fill("7")
    await chat.page.keyboard.press("Escape")
    await expect(chat.button("2 parameters set")).to_be_visible()
    await chat.ask("Hi", "Answer 1.")
    assert ranch.request.sampling.top_k == 7
