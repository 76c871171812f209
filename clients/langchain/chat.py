"""A chain of prompt, model and parser in LangChain, streamed: pip install langchain-openai

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python clients/langchain/chat.py France

Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
"""

import os
import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

MODEL = "smollm2-135m-instruct"


def main() -> None:
    country = " ".join(sys.argv[1:]) or "France"
    model = ChatOpenAI(
        model=MODEL,
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        temperature=0,
    )
    prompt = ChatPromptTemplate.from_messages([("user", "What is the capital of {country}?")])
    for piece in (prompt | model | StrOutputParser()).stream({"country": country}):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
