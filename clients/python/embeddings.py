"""Find the text that is nearest to a question, by embeddings.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python clients/python/embeddings.py

Needs a server with a model of `kind: embedding`, such as the first of
examples/registry/embedding.yaml. Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the
server needs none).
"""

import os
import sys

from openai import OpenAI

MODEL = "all-minilm-l6-v2"
TEXTS = ["A kitten naps on the couch.", "Tax returns are due in April.", "It rains in London."]


def main() -> None:
    question = " ".join(sys.argv[1:]) or "The cat sleeps on the sofa."
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    answer = client.embeddings.create(model=MODEL, input=[question, *TEXTS])
    asked, *others = [item.embedding for item in answer.data]
    # Vectors have length 1, so that the product is the cosine of their angle.
    scores = [sum(a * b for a, b in zip(asked, other, strict=True)) for other in others]
    for score, text in sorted(zip(scores, TEXTS, strict=True), reverse=True):
        print(f"{score:.3f} {text}")


if __name__ == "__main__":
    main()
