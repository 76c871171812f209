"""From a call to a request that an embedding engine can take."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from server.engines.base import EmbeddingRequest
from server.errors import ContextLengthExceeded, InvalidRequest
from server.generation.calls import EmbeddingCall, PreparedEmbedding
from server.generation.herd import Herd
from server.generation.hosted import HostedModel
from server.generation.sampling import check_token_ids
from server.prompts.tokenizer import PromptTokenizer


def embedding_model(herd: Herd, name: str) -> HostedModel:
    """The model of this name, if it is for embeddings.

    Raises:
        ModelNotFound: No such model.
        InvalidRequest: It writes text.
    """
    model = herd.resolve(name)
    if model.entry.kind == "embedding":
        return model
    others = [entry.id for entry in herd.registry.models if entry.kind == "embedding"]
    remedy = (
        f"Use {' or '.join(others)}."
        if others
        else "Add an entry with 'kind: embedding' to model_registry.yaml."
    )
    raise InvalidRequest(
        f"The model '{model.entry.id}' writes text and makes no embeddings. {remedy}",
        param="model",
    )


def prepared_embedding(
    model: HostedModel, tokenizer: PromptTokenizer, call: EmbeddingCall
) -> PreparedEmbedding:
    """The input as tokens that fit.

    Raises:
        InvalidRequest: It is empty, or holds ids that the model lacks.
        ContextLengthExceeded: It does not fit.
    """
    if isinstance(call.input, str):
        start, body, end = _tokens_of(tokenizer, call.input, special=call.add_special_tokens)
    else:
        check_token_ids(call.input, model.vocab_size, param="input")
        start, body, end = (), call.input, ()
    most = call.truncate_tokens
    if most is not None:
        room = (model.context_length if most == -1 else most) - len(start) - len(end)
        body = _shortened(body, room, keep_end=call.keep_end)
    ids = [*start, *body, *end]
    if len(ids) > model.context_length:
        raise ContextLengthExceeded(
            limit=model.context_length, prompt_tokens=len(ids), param="input"
        )
    return PreparedEmbedding(
        model=model,
        request=EmbeddingRequest(
            request_id=uuid.uuid4().hex,
            prompt_token_ids=ids,
            dimensions=call.dimensions,
            priority=call.priority,
        ),
    )


def _tokens_of(
    tokenizer: PromptTokenizer, text: str, *, special: bool
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """What the tokenizer puts before a text, the text, and what it puts after."""
    body = tokenizer.encode_text(text)
    if not body:
        raise InvalidRequest(
            "'input' must not be or hold an empty text: it has no embedding.", param="input"
        )
    return (tokenizer.beginning, body, tokenizer.ending) if special else ((), body, ())


def _shortened(ids: Sequence[int], room: int, *, keep_end: bool) -> Sequence[int]:
    if room < 1:
        raise InvalidRequest(
            "'truncate_prompt_tokens' leaves no room for the text beside the special tokens.",
            param="truncate_prompt_tokens",
        )
    return ids[-room:] if keep_end else ids[:room]
