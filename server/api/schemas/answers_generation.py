"""What OpenAI's endpoints for chats, completions, vectors and tokens answer: see `answers`."""

from __future__ import annotations

from typing import Literal

from server.api.schemas.answers import Answer


class TokenDetails(Answer):
    """Prompt tokens that came from the prefix cache, and messages that did not fit."""

    cached_tokens: int
    dropped_messages: int | None = None


class CompletionDetails(Answer):
    """Tokens of an answer that were reasoning."""

    reasoning_tokens: int


class UsageObject(Answer):
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails
    completion_tokens_details: CompletionDetails | None = None


class TokenScore(Answer):
    """A token, its log-probability and its bytes."""

    token: str
    logprob: float
    bytes: list[int]


class ScoredToken(TokenScore):
    """A drawn token, and the likeliest ones in its place."""

    top_logprobs: list[TokenScore]


class ChatScores(Answer):
    """Log-probabilities of an answer."""

    content: list[ScoredToken]
    refusal: None


class TextScores(Answer):
    """Log-probabilities as the legacy endpoint has them: lists of the same length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class PromptScore(Answer):
    """A token that could have stood at some place of the prompt."""

    logprob: float
    rank: int
    decoded_token: str


class Choice(Answer):
    """What answers of both kinds have. Lists of ids and scores are there where asked for."""

    index: int
    finish_reason: Literal["stop", "length", "tool_calls"]
    stop_reason: str | int | None
    token_ids: list[int] | None = None


class CalledFunction(Answer):
    """A function's name, and its arguments as JSON text."""

    name: str
    arguments: str


class CalledTool(Answer):
    """One tool call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Answer):
    """An answer; ``content`` is null where it only calls tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[CalledTool] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class ChatChoice(Choice):
    """One of the answers of a chat completion."""

    message: AssistantMessage
    logprobs: ChatScores | None


class Completion(Answer):
    """What whole answers of both kinds have."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: UsageObject


class ChatCompletionObject(Completion):
    """A whole chat completion."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    prompt_logprobs: list[dict[str, PromptScore] | None] | None = None
    prompt_token_ids: list[int] | None = None


class TextChoice(Choice):
    """One continuation of a prompt."""

    text: str
    logprobs: TextScores | None
    prompt_logprobs: list[dict[str, PromptScore] | None] | None = None
    prompt_token_ids: list[int] | None = None


class TextCompletionObject(Completion):
    """A whole legacy completion."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class RenderedPrompt(Answer):
    """The exact prompt of a conversation."""

    object: Literal["chat.completion.render"]
    model: str
    template: str
    prompt: str
    prompt_token_ids: list[int]
    prompt_tokens: int
    context_length: int
    max_tokens: int
    stop: list[str]
    stop_token_ids: list[int]
    dropped_messages: int


class EmbeddingObject(Answer):
    """The vector of one input: numbers, or base64 of 32-bit floats, little-endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Answer):
    """Token counts of all inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Answer):
    """A vector an input, in their order."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


class TokenList(Answer):
    """The tokens of a text or a conversation."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Answer):
    """The text of token ids."""

    prompt: str
