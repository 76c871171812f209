"""The prompt formats: what each model family was trained on, as data.

The text of a format is its template in ``templates/`` (preambles, separators, trimming and the
place of a system message are all there, so that the file also works in any other tool). Beside it
stand the facts that a template cannot carry: where an answer ends, who puts the BOS token, and
what the conversation must look like before it is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from server.errors import InvalidRequest
from server.prompts.conversation import SystemPlace


@dataclass(frozen=True, slots=True)
class Format:
    """One prompt format.

    Attributes:
        id: The name used by a registry entry's ``template:``.
        source: The repository that defines the format.
        template: File in ``templates/``, or None for the model's own chat template.
        stop: Strings that end an answer. Kept few and short: the engine holds back that many
            characters while it streams.
        stop_tokens: Control tokens that end an answer besides the model's EOS; one that a
            model's vocabulary lacks counts as a stop string there.
        bos: ``auto``: the template's ``bos_token`` is the tokenizer's if the tokenizer puts one
            before a text by itself, else empty. ``template``: it is always the tokenizer's, for
            formats that spell it out. Either way BOS comes from the template alone, once.
        system: ``anywhere`` or ``slot``; see ``conversation.normalise``.
        tool_role: True if the format shows a tool's result as such; elsewhere it becomes a
            user turn.
        input_block: True if the format has an Input block for a user message's second part.
        single_turn: True if there is no way to write a second turn; ``history: turns`` then
            means ``fold``.
        strip_leading_space: True if a trained answer starts with a space that belongs to the
            format (``ASSISTANT: Hello``), not to the answer. The prompt ends before it, because
            the model writes it as a part of its first token; the service takes ONE space off
            the start of the answer.
    """

    id: str
    source: str
    template: str | None
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[str, ...] = ()
    bos: Literal["auto", "template"] = "auto"
    system: SystemPlace = "slot"
    tool_role: bool = False
    input_block: bool = False
    single_turn: bool = False
    strip_leading_space: bool = False


# Never a bare "###": it is a Markdown heading in many an answer.
_ALPACA_STOP: Final = ("### Instruction:", "### Input:", "### Response:")

_ALL: Final = (
    Format(
        id="raw",
        source="facebookresearch/llama v1",
        template="raw.jinja",
        system="anywhere",
        tool_role=True,
    ),
    Format(
        id="dialogue",
        source="Corral",
        template="dialogue.jinja",
        stop=("\nHuman:", "\nAI:"),
        strip_leading_space=True,
    ),
    Format(
        id="alpaca",
        source="tatsu-lab/stanford_alpaca",
        template="alpaca.jinja",
        stop=_ALPACA_STOP,
        input_block=True,
    ),
    Format(
        id="alpaca-lora",
        source="tloen/alpaca-lora",
        template="alpaca-lora.jinja",
        stop=_ALPACA_STOP,
        input_block=True,
    ),
    Format(
        id="alpaca-cot-dialog",
        source="PhoebusSi/Alpaca-CoT",
        template="alpaca-cot-dialog.jinja",
        stop=("### Human:",),
    ),
    Format(
        id="chinese-alpaca",
        source="ymcui/Chinese-LLaMA-Alpaca",
        template="chinese-alpaca.jinja",
        stop=_ALPACA_STOP,
    ),
    Format(
        id="chinese-alpaca-2",
        source="ymcui/Chinese-LLaMA-Alpaca-2",
        template="chinese-alpaca-2.jinja",
        bos="template",
        strip_leading_space=True,
    ),
    Format(
        id="vicuna-v0",
        source="lm-sys/FastChat",
        template="vicuna-v0.jinja",
        stop=("###",),
        strip_leading_space=True,
    ),
    Format(
        id="vicuna-v1.1",
        source="lm-sys/FastChat",
        template="vicuna-v1.1.jinja",
        strip_leading_space=True,
    ),
    # The 7B model of v1.0. WizardLM from 13B on is `vicuna-v1.1`.
    Format(
        id="wizardlm",
        source="nlpxucan/WizardLM",
        template="wizardlm.jinja",
        single_turn=True,
    ),
    Format(id="koala", source="young-geng/EasyLM", template="koala.jinja"),
    Format(
        id="guanaco",
        source="artidoro/qlora",
        template="guanaco.jinja",
        stop=("### Human:",),
        strip_leading_space=True,
    ),
    Format(
        id="baize",
        source="project-baize/baize-chatbot",
        template="baize.jinja",
        stop=("[|Human|]", "[|AI|]"),
    ),
    # "### End" is a token of Dolly's own vocabulary and plain text in others.
    Format(
        id="dolly-v2",
        source="databrickslabs/dolly",
        template="dolly-v2.jinja",
        stop=("### End",),
        stop_tokens=("### End",),
        input_block=True,
    ),
    Format(
        id="oasst",
        source="LAION-AI/Open-Assistant",
        template="oasst.jinja",
        system="anywhere",
    ),
    Format(
        id="llama-2",
        source="facebookresearch/llama",
        template="llama-2.jinja",
        bos="template",
        strip_leading_space=True,
    ),
    Format(
        id="llama-3",
        source="meta-llama/llama3",
        template="llama-3.jinja",
        stop_tokens=("<|eot_id|>", "<|end_of_text|>"),
        bos="template",
        system="anywhere",
        tool_role=True,
    ),
    Format(
        id="zephyr",
        source="HuggingFaceH4/zephyr-7b-beta",
        template="zephyr.jinja",
        system="anywhere",
    ),
    Format(
        id="chatml",
        source="OpenAI",
        template="chatml.jinja",
        stop_tokens=("<|im_end|>",),
        system="anywhere",
        tool_role=True,
    ),
    Format(
        id="auto",
        source="the model's own chat template",
        template=None,
        bos="template",
        system="anywhere",
        tool_role=True,
    ),
)

FORMATS: Final[Mapping[str, Format]] = MappingProxyType({each.id: each for each in _ALL})


def get_format(name: str) -> Format:
    """The format with the id ``name``.

    Raises:
        InvalidRequest: There is none; the message lists the ids.
    """
    try:
        return FORMATS[name]
    except KeyError:
        known = ", ".join(FORMATS)
        raise InvalidRequest(
            f"Unknown prompt format '{name}'. The formats are: {known}.", param="template"
        ) from None
