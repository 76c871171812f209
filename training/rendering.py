"""A conversation becomes rows of token ids and labels, by the formatter that serves.

The prompt before an answer is what the server would give to the engine, id by id: it is rendered
from the messages before the answer, on its own, and the answer's ids follow it. The answer ends
with a token that ends generation. Of a conversation with several answers one row is made as long as
the next prompt goes on from what the row holds; where it does not (a format that writes earlier
turns in another way, or ends them without a token), the next answer gets a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from server.prompts.conversation import Message, merge_turns
from server.prompts.formatter import Formatter
from training.data.shapes import Conversation

NO_LABEL: Final = -100
"""What PyTorch's cross entropy leaves out."""


@dataclass(slots=True)
class TokenRow:
    """One row to train on.

    Attributes:
        input_ids: The tokens.
        labels: The same where the token is trained, else ``NO_LABEL``.
    """

    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    @property
    def trained(self) -> int:
        """How many tokens are trained."""
        return sum(label != NO_LABEL for label in self.labels)

    def cut(self, length: int) -> TokenRow:
        """Its first so many tokens."""
        return TokenRow(self.input_ids[:length], self.labels[:length])

    def _follow(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Go on with a prompt that begins with this row, and its answer."""
        gap = len(prompt) - len(self.input_ids)
        self.input_ids = [*prompt, *answer]
        self.labels += [NO_LABEL] * gap + list(answer)


def token_rows(
    formatter: Formatter,
    conversation: Conversation,
    answers: Literal["all", "last"] = "all",
) -> Iterator[TokenRow]:
    """Render a conversation to train on.

    Args:
        formatter: The model's, as for serving.
        conversation: Any.
        answers: Which of its answers are trained.

    Yields:
        Rows with at least one label each, whose last token is trained.

    Raises:
        InvalidRequest: The format cannot show the conversation.
    """
    if conversation.is_text:
        yield _text_row(formatter, conversation.messages[0].text)
        return
    messages = merge_turns(conversation.messages)
    row = TokenRow()
    for position in _answers_in(messages, answers):
        told = messages[: position + 1]
        answered = formatter.render_answered(told, tools=conversation.tools)
        prompt = answered.prompt.token_ids
        if row.input_ids and prompt[: len(row.input_ids)] != row.input_ids:
            yield row
            row = TokenRow()
        row._follow(prompt, answered.token_ids)
    if row.input_ids:
        yield row


def _answers_in(messages: Sequence[Message], answers: Literal["all", "last"]) -> Sequence[int]:
    """Places of the answers to train on; an answer to nothing is none."""
    found = [
        number
        for number, message in enumerate(messages)
        if message.role == "assistant"
        and (message.text.strip() or message.extra)
        and any(earlier.role != "system" for earlier in messages[:number])
    ]
    return found if answers == "all" else found[-1:]


def _text_row(formatter: Formatter, text: str) -> TokenRow:
    """Text as it is: BOS where the tokenizer adds it, and EOS at the end."""
    prompt = formatter.render_text(text).token_ids
    beginning = [*formatter.tokenizer.beginning]
    ids = [*prompt, formatter.tokenizer.require_eos()]
    return TokenRow(ids, [NO_LABEL] * len(beginning) + ids[len(beginning) :])
