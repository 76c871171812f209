"""LlamaIndex: OpenAILike, an answer and a stream."""

from __future__ import annotations

import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

model = OpenAILike(
    model=os.environ["MODEL"],
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key=os.environ["OPENAI_API_KEY"],
    is_chat_model=True,
    context_window=8192,
    temperature=0,
    max_tokens=60,
)
messages = [ChatMessage(role="user", content="Write one sentence about Paris.")]
answer = model.chat(messages).message.content
streamed = "".join(chunk.delta or "" for chunk in model.stream_chat(messages))
print("answer:", answer)
assert answer
assert streamed == answer
