"""What is asked, and by what rule an answer is judged: the form of task files.

A file holds the items of one category in one language. It is YAML; see docs/evaluation.md.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CATEGORIES: Final = (
    "self-identification",
    "generation",
    "summarising",
    "knowledge",
    "safety",
    "mathematics",
    "code",
    "trick-questions",
)
_NAME: Final = r"^[a-z0-9][a-z0-9-]*$"
Language = Literal["en", "zh"]
LANGUAGES: Final[dict[str, str]] = {"en": "English", "zh": "Chinese"}
Pattern = Annotated[str, Field(min_length=1)]
Patterns = Annotated[list[Pattern], Field(min_length=1)]


class Form(BaseModel):
    """Nothing unknown, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Form):
    """How many there may be; either end may be open."""

    min: int = 0
    max: int = 10**9


class CodeCase(Form):
    """A call of the function that was asked for, and what it returns."""

    args: list[Any]
    returns: Any


class CodeRule(Form):
    """The answer holds a Python function that returns what it should for every case."""

    function: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
    cases: Annotated[list[CodeCase], Field(min_length=1)]


class Rules(Form):
    """What an answer must satisfy; every rule that is given must hold.

    Args:
        exact: One of these, whatever the case, punctuation at the ends and spacing.
        number: The number that the answer gives (`quantities.final_number`), within ``tolerance``.
        choice: The letter that it chooses.
        says: Every pattern is found outside a negation.
        says_any: One of them is.
        never_says: None of them is.
        matches: Every pattern is found, negated or not.
        refuses: Whether it declines at its beginning.
        language: What it is mostly written in.
        words, sentences, lines: How many; a Chinese character is a word.
        loops: False: it does not say the same again and again.
        json_keys: It is a JSON object, in a code block or not, with exactly these keys.
        code: See `CodeRule`.
    """

    exact: Patterns | None = None
    number: float | None = None
    tolerance: float = 0.0
    choice: Annotated[str, Field(pattern="^[A-H]$")] | None = None
    says: Patterns | None = None
    says_any: Patterns | None = None
    never_says: Patterns | None = None
    matches: Patterns | None = None
    refuses: bool | None = None
    language: Language | None = None
    words: Range | None = None
    sentences: Range | None = None
    lines: Range | None = None
    loops: Literal[False] | None = None
    json_keys: list[str] | None = None
    code: CodeRule | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Rules:
        if not self.model_dump(exclude_none=True, exclude={"tolerance"}):
            raise ValueError("no rule is given")
        return self


class TextPart(Form):
    """A part of what is said."""

    type: Literal["text"]
    text: str


class Message(Form):
    """One turn of a conversation.

    Args:
        content: What is said; of a user also in parts.
        input: What an instruction is about, where a data set keeps it apart as Alpaca's does.
    """

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    input: str | None = None

    @model_validator(mode="after")
    def _an_answer_is_one_text(self) -> Message:
        if self.role == "assistant" and not isinstance(self.content, str):
            raise ValueError("an assistant's content must be text")
        return self

    @property
    def texts(self) -> list[str]:
        """Everything that is said."""
        said = self.content
        parts = [said] if isinstance(said, str) else [part.text for part in said]
        return [*parts, self.input] if self.input else parts

    def as_openai(self) -> dict[str, Any]:
        """As it is sent. An ``input`` becomes a second part of the content: formats that have a
        place for it put it there, others behind the instruction."""
        if isinstance(self.content, str) and not self.input:
            return {"role": self.role, "content": self.content}
        parts = [{"type": "text", "text": text} for text in self.texts]
        return {"role": self.role, "content": parts}


class Item(Form):
    """One question.

    Args:
        prompt: The last thing that is said to the model.
        before: What was said before it.
        score: How an answer is scored; without it only a judge can tell.
        judge: Whether a judge compares answers to it.
        reference: A good answer, shown to the judge and in the report.
    """

    id: Annotated[str, Field(pattern=_NAME)]
    prompt: Annotated[str, Field(min_length=1)]
    before: list[Message] = []
    score: Rules | None = None
    judge: bool = False
    reference: str | None = None
    max_tokens: int | None = None

    @model_validator(mode="after")
    def _is_of_use(self) -> Item:
        if self.score is None and not self.judge:
            raise ValueError("neither 'score' nor 'judge': nothing would be learned of an answer")
        return self

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation in OpenAI's form."""
        said = [message.as_openai() for message in self.before]
        return [*said, {"role": "user", "content": self.prompt}]


class Choice(Form):
    """A question with continuations, of which the right one should be the likeliest."""

    id: Annotated[str, Field(pattern=_NAME)]
    prompt: Annotated[str, Field(min_length=1)]
    choices: Annotated[list[Pattern], Field(min_length=2)]
    answer: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _has_its_answer(self) -> Choice:
        if self.answer >= len(self.choices):
            raise ValueError(
                f"'answer' is {self.answer}, and there are {len(self.choices)} choices"
            )
        return self


class Task(Form):
    """Items of one category in one language.

    Args:
        collection: Whose items they are, where they are not ours.
        max_tokens: Longest answer to an item that says nothing else.
        quotes: Answers may repeat sentences of their prompt, as summaries do. Elsewhere such
            sentences are no part of an answer.
    """

    quotes: bool = False
    collection: Annotated[str, Field(pattern=_NAME)] | None = None
    category: Literal[
        "self-identification",
        "generation",
        "summarising",
        "knowledge",
        "safety",
        "mathematics",
        "code",
        "trick-questions",
    ]
    language: Language
    max_tokens: Annotated[int, Field(gt=0)] = 160
    items: Annotated[list[Item], Field(min_length=1)]

    def echo(self, item: Item) -> str:
        """The prompt whose sentences are no part of an answer."""
        return "" if self.quotes else item.prompt

    @property
    def name(self) -> str:
        """``mathematics/en``, or ``mathematics/en/gsm8k``."""
        name = f"{self.category}/{self.language}"
        return f"{name}/{self.collection}" if self.collection else name


class ChoiceTask(Form):
    """Questions whose answers are told by likelihood."""

    choices: Annotated[str, Field(pattern=_NAME)]
    language: Language
    items: Annotated[list[Choice], Field(min_length=1)]

    @property
    def name(self) -> str:
        """``choices-everyday/en``."""
        return f"choices-{self.choices}/{self.language}"


def digest(value: BaseModel | dict[str, Any]) -> str:
    """Changes with the content: an item that was edited is asked again."""
    plain = value.model_dump() if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
