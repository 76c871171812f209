"""Messages in, exact prompt out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from server.errors import InvalidRequest
from server.prompts.answers import answer_behind, end_answer
from server.prompts.catalog import Format
from server.prompts.conversation import Message, normalise, with_input
from server.prompts.environment import read_template
from server.prompts.history import History, apply_history
from server.prompts.rendering import Renderer
from server.prompts.tokenizer import PromptTokenizer
from server.prompts.tools import calls_in, teach_tools, write_tool_turns

# Tokens around a turn's text where the format cannot be measured.
_USUAL_TURN_OVERHEAD: Final = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the engine gets, and what is needed to end and clean the answer.

    Attributes:
        text: The prompt as text, BOS included, for people to read.
        token_ids: The prompt; the engine is to add nothing to it.
        stop: Strings that end the answer and are not a part of it.
        stop_token_ids: Ids that end the answer, ascending.
        strip_leading_space: Take one space off the start of the answer, if there is one.
    """

    text: str
    token_ids: list[int]
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    strip_leading_space: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt and what the model is to write behind it.

    Attributes:
        prompt: What the engine would get.
        token_ids: The answer's ids; the last one, and no other, ends the answer.
    """

    prompt: Prompt
    token_ids: list[int]


class Formatter:
    """Renders conversations for one model. Nothing changes after construction but caches.

    Args:
        format: The prompt format.
        tokenizer: The model's tokenizer.
        history: How earlier turns are put; see ``history.apply_history``.
        default_system: System text for conversations that bring none; "" leaves a format's own
            preamble out; None leaves the matter to the format.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002 - the domain's word
        tokenizer: PromptTokenizer,
        *,
        history: History = "turns",
        default_system: str | None = None,
    ) -> None:
        self.format = format
        self.tokenizer = tokenizer
        self.history: History = "fold" if format.single_turn and history == "turns" else history
        self.default_system = default_system
        control = tokenizer.control_tokens
        missing = [token for token in format.stop_tokens if token not in control]
        ids = {control[token] for token in format.stop_tokens if token in control}
        self.stop = tuple(dict.fromkeys((*format.stop, *missing)))
        self.stop_token_ids = tuple(sorted(ids | tokenizer.eos_token_ids))

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Prompt:
        """Render a conversation.

        Args:
            messages: At least one message.
            add_generation_prompt: End with the header of the answer to come.
            continue_final_message: End inside the last message, an assistant's, so that the
                model goes on with it; ``add_generation_prompt`` must be False then.
            template_kwargs: Further variables for the template (``enable_thinking``); JSON
                values.
            tools: Functions the model may call, in OpenAI's form. A template that does not know
                of tools has them written into the system message.

        Raises:
            InvalidRequest: The messages cannot be rendered in this format; ``param`` says which
                part of the request is at fault.
        """
        _check_ending(messages, add_generation_prompt, continue_final_message)
        text, mark = self._run_template(
            messages,
            template_kwargs,
            tools,
            generate=add_generation_prompt,
            resume=continue_final_message,
        )
        return self._prompt(text, mark, resume=continue_final_message)

    def render_answered(
        self,
        messages: Sequence[Message],
        *,
        template_kwargs: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Answered:
        """Render a conversation that ends with an answer, for a model to be trained on.

        Args:
            messages: At least two; the last is an assistant's.
            template_kwargs: As for `render`.
            tools: As for `render`.

        Raises:
            InvalidRequest: As `render`; or the template does not write the answer behind the prompt
                that it makes of the messages before it.
        """
        asked = messages[:-1]
        _check_ending(asked, True, False)
        before, mark = self._run_template(asked, template_kwargs, tools, generate=True)
        prompt = self._prompt(before, mark)
        whole, own_mark = self._run_template(messages, template_kwargs, tools, generate=False)
        _check_unicode(whole, "messages")
        # An answer may hold the mark that the prompt alone was rendered with.
        before = before.replace(mark, own_mark)
        answer = answer_behind(before, whole)
        ids = self.tokenizer.encode_rendered(answer, own_mark, after=before)
        ended = end_answer(ids, self.stop_token_ids)
        if ended is None:
            kept = answer.rstrip()
            ids = self.tokenizer.encode_rendered(kept, own_mark, after=before)
            ended = [*ids, self.tokenizer.require_eos()]
        return Answered(prompt=prompt, token_ids=ended)

    def knows(self, variable: str) -> bool:
        """Whether the chat template reads ``variable``.

        Raises:
            InvalidRequest: The model has no chat template.
        """
        return variable in self._renderer.variables

    def render_text(self, text: str, *, allow_control_tokens: bool = False) -> Prompt:
        """The prompt of a plain completion: BOS if the tokenizer adds it, then the text.

        Only the model's own end tokens end the answer: the caller writes the format, and stops.

        Args:
            text: The text to continue.
            allow_control_tokens: Whether what spells a control token is one. A text that
                starts with BOS gets no second one then.

        Raises:
            InvalidRequest: The text is no valid Unicode.
        """
        _check_unicode(text, "prompt")
        bos = self.tokenizer.bos_token if self.tokenizer.adds_bos else ""
        if allow_control_tokens:
            whole = text if text.startswith(bos) else bos + text
            ids = self.tokenizer.encode_rendered(whole)
        else:
            whole = bos + text
            ids = self.tokenizer.encode_rendered(bos) + self.tokenizer.encode_text(text)
        return Prompt(
            text=whole,
            token_ids=ids,
            stop=(),
            stop_token_ids=tuple(sorted(self.tokenizer.eos_token_ids)),
            strip_leading_space=False,
        )

    def estimate_turn_tokens(self, message: Message) -> int:
        """About how many tokens a message adds to a prompt, without rendering it.

        Exact to a few tokens: merges across a turn's borders and a template's own words about
        tools are not counted.
        """
        texts = (message.text, message.input or "", *_strings(message.extra))
        return self._turn_overhead + sum(self.tokenizer.count(text) for text in texts)

    @cached_property
    def _turn_overhead(self) -> int:
        """Tokens that the format puts around a turn's text, rounded up."""
        ask, answer = Message("user", "x"), Message("assistant", "x")
        try:
            short = len(self.render([ask]).token_ids)
            long = len(self.render([ask, answer, ask]).token_ids)
        except InvalidRequest:
            return _USUAL_TURN_OVERHEAD
        return max(0, -(-(long - short) // 2) - self.tokenizer.count("x"))

    @cached_property
    def _renderer(self) -> Renderer:
        """Made on first use: a base model without a chat template still does completions."""
        name = self.format.template
        source = read_template(name) if name else self.tokenizer.chat_template
        if source is None:
            raise InvalidRequest(
                "This model has no chat template of its own, so it cannot be used for chat as it "
                "is configured. Set `template:` of its entry in model_registry.yaml to one of "
                "the prompt formats, or use /v1/completions.",
                param="model",
            )
        bos = self.format.bos == "template" or self.tokenizer.adds_bos
        special = {
            "eos_token": "",
            **self.tokenizer.special,
            "bos_token": self.tokenizer.bos_token if bos else "",
        }
        return Renderer(source, special, self.tokenizer.control_pattern)

    def _prompt(self, text: str, mark: str, *, resume: bool = False) -> Prompt:
        _check_unicode(text, "messages")
        return Prompt(
            text=text.replace(mark, ""),
            token_ids=self.tokenizer.encode_rendered(text, mark),
            stop=self.stop,
            stop_token_ids=self.stop_token_ids,
            # An answer that is continued has its space already.
            strip_leading_space=self.format.strip_leading_space and not resume,
        )

    def _run_template(
        self,
        messages: Sequence[Message],
        template_kwargs: Mapping[str, Any] | None,
        tools: Sequence[Mapping[str, Any]],
        *,
        generate: bool,
        resume: bool = False,
    ) -> tuple[str, str]:
        """The rendered messages with marks in them, and the mark; see `Renderer.render`."""
        taught: Sequence[Mapping[str, Any]] = ()
        if tools and self.knows("tools"):
            template_kwargs = {**(template_kwargs or {}), "tools": list(tools)}
        else:
            taught = tools
        turns = self._turns(messages, taught)
        return self._renderer.render(turns, template_kwargs, generate=generate, resume=resume)

    def _turns(
        self, messages: Sequence[Message], taught: Sequence[Mapping[str, Any]]
    ) -> tuple[Message, ...]:
        """The messages as the format can show them, with tools that the template does not know."""
        block = self.format.input_block
        if taught or (calls_in(messages) and not self.knows("tools")):
            messages = write_tool_turns(messages)
        settled = [with_input(message, input_block=block) for message in messages]
        turns = normalise(settled, system=self.format.system, tools=self.format.tool_role)
        if self.default_system is not None and turns[0].role != "system":
            turns = (Message("system", self.default_system), *turns)
        if taught:
            turns = teach_tools(turns, taught)
        return apply_history(turns, self.history)


def _check_ending(messages: Sequence[Message], generate: bool, resume: bool) -> None:
    if not messages:
        raise InvalidRequest("'messages' must hold at least one message.", param="messages")
    if resume and generate:
        raise InvalidRequest(
            "'continue_final_message' and 'add_generation_prompt' exclude each other: set "
            "'add_generation_prompt' to false.",
            param="continue_final_message",
        )
    if resume and messages[-1].role != "assistant":
        raise InvalidRequest(
            "'continue_final_message' needs a last message of role 'assistant'.",
            param="continue_final_message",
        )


def _check_unicode(text: str, param: str) -> None:
    """JSON can write half a surrogate pair (``"\\ud83d"``), which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"The text is not valid Unicode: it holds the lone surrogate "
            f"U+{ord(text[error.start]):04X}.",
            param=param,
        ) from None


def _strings(value: Any) -> Iterator[str]:
    """Every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
