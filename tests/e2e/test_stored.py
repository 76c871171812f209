"""What was answered survives the server, however it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai import OpenAI
from openai.types.responses import ResponseCompletedEvent, ResponseIncompleteEvent

from tests.e2e.harness import CAPITAL, INSTRUCT, Server, a_server, kill

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


def sdk(server: Server) -> OpenAI:
    return OpenAI(base_url=server.url + "/v1", api_key="none", timeout=120, max_retries=0)


def test_responses_and_conversations_survive_a_kill(tmp_path: Path) -> None:
    arguments = ("--database-url", f"sqlite:///{tmp_path}/corral.db")
    with a_server(*arguments) as server:
        server.wait_ready()
        with sdk(server) as client:
            said = {"model": INSTRUCT, "temperature": 0, "max_output_tokens": 24}
            first = client.responses.create(input=CAPITAL, **said)  # type: ignore[call-overload]
            assert first.output_text
            conversation = client.conversations.create(metadata={"topic": "France"})
            last = None
            stream = client.responses.create(
                input="What is its largest river?",
                conversation=conversation.id,
                stream=True,
                **said,  # type: ignore[call-overload]
            )
            for event in stream:
                if isinstance(event, (ResponseCompletedEvent, ResponseIncompleteEvent)):
                    last = event.response
                    kill(server.pid)  # in the very moment that the client hears of it
                    break
        server.wait_gone()
    assert last is not None
    with a_server(*arguments) as server:
        server.until(lambda: server.health().get("status") == "ok", "an answer")
        with sdk(server) as client:
            # Before any model is there.
            assert client.responses.retrieve(first.id) == first
            assert client.responses.retrieve(last.id) == last
            assert client.conversations.retrieve(conversation.id) == conversation
            items = list(client.conversations.items.list(conversation.id, order="asc"))
            assert [item.type for item in items] == ["message", "message"]
            assert items[1].to_dict() == last.output[0].to_dict()
            server.wait_ready()
            follow = client.responses.create(
                input="Write that again.",
                previous_response_id=first.id,
                **said,  # type: ignore[call-overload]
            )
            assert follow.usage is not None
            assert first.usage is not None
            # The prompt holds the first question and its answer.
            assert follow.usage.input_tokens > first.usage.total_tokens
