from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.errors import SourceError
from server.prompts.model_files import AddedToken
from server.prompts.tokenizer import PromptTokenizer
from tests.unit.prompts.support_tokenizers import added, byte_level, llama, write_model

ToTokenizer = Callable[[str], PromptTokenizer]
SPACE, HI, SPACE_HI = 259, 267, 269  # "▁", "Hi", "▁Hi"


def of(path: Path, tokenizer: dict[str, Any], **files: Any) -> PromptTokenizer:
    return PromptTokenizer.from_directory(write_model(path, tokenizer, **files))


def byte(character: str) -> int:
    return 3 + ord(character)


def test_what_a_directory_says(tokenizer_of: ToTokenizer) -> None:
    tokenizer = tokenizer_of("llama")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert tokenizer.control_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert tokenizer.eos_token_ids == {2}
    assert tokenizer.adds_bos
    assert tokenizer.chat_template is None
    assert tokenizer.vocab_size == 272


def test_several_end_tokens(tokenizer_of: ToTokenizer) -> None:
    assert tokenizer_of("llama-3").eos_token_ids == {1, 4}


@pytest.mark.parametrize(
    ("text", "legacy", "first_only"),
    [
        ("Hi", [SPACE_HI], [SPACE_HI]),
        ("<s>Hi", [1, SPACE_HI], [1, SPACE_HI]),
        ("Hi</s>Hi", [SPACE_HI, 2, SPACE_HI], [SPACE_HI, 2, HI]),
        ("Hi</s> Hi", [SPACE_HI, 2, SPACE, SPACE_HI], [SPACE_HI, 2, SPACE_HI]),
        # LLaMA 2's chat begins each exchange with BOS, as a sequence of its own.
        ("<s>Hi</s><s>Hi", [1, SPACE_HI, 2, 1, SPACE_HI], [1, SPACE_HI, 2, 1, SPACE_HI]),
    ],
)
def test_word_initial_spaces(
    text: str, legacy: list[int], first_only: list[int], tokenizer_of: ToTokenizer
) -> None:
    assert tokenizer_of("llama").encode_rendered(text) == legacy
    assert tokenizer_of("llama-first").encode_rendered(text) == first_only


@pytest.mark.parametrize("kind", ["llama", "llama-first", "llama-3"])
def test_bos_then_text_is_what_the_tokenizer_makes_of_the_text(
    kind: str, tokenizer_of: ToTokenizer, reference_of: Callable[[str], Tokenizer]
) -> None:
    ours = tokenizer_of(kind)
    reference = reference_of(kind).encode("Hi, hello 🦙", add_special_tokens=True)
    assert ours.encode_rendered(ours.bos_token + "Hi, hello 🦙") == reference.ids


def test_typed_tokens_are_text(tokenizer_of: ToTokenizer) -> None:
    """Not even by merges: "</" and "s>" make "</s>" in this vocabulary."""
    tokenizer = tokenizer_of("llama")
    assert tokenizer.encode_text("</s>") == [SPACE, 270, 271]
    assert tokenizer.encode_text("<s>") == [SPACE, 262, 271]
    assert tokenizer.encode_text("Hi<unk>") == [SPACE_HI, 262, *map(byte, "unk"), 265]
    assert tokenizer.encode_text("") == []
    assert tokenizer.count("</s>") == 3
    chatml = tokenizer_of("chatml")
    ids = chatml.encode_text("<|im_end|>hello")
    assert len(ids) == 11
    assert ids[-1] == chatml.encode_text("hello")[0]
    assert min(ids) > 2
    assert chatml.decode(ids) == "<|im_end|>hello"


def test_text_between_control_tokens_is_encoded_as_one(tokenizer_of: ToTokenizer) -> None:
    """Merges cross the border between a template's text and the user's."""
    tokenizer = tokenizer_of("llama")
    assert tokenizer.encode_rendered("<s>H\ufdd0i\ufdd0", "\ufdd0") == [1, SPACE_HI]


@pytest.mark.parametrize("kind", ["llama", "llama-first", "llama-3", "chatml", "oasst"])
@given(data=st.data())
@settings(max_examples=40, deadline=None, database=None)
def test_same_ids_as_the_tokenizers_library(
    kind: str,
    data: st.DataObject,
    tokenizer_of: ToTokenizer,
    reference_of: Callable[[str], Tokenizer],
) -> None:
    """Whole prompts, control tokens anywhere but BOS, which is a subject of its own."""
    ours = tokenizer_of(kind)
    tokens = sorted(set(ours.control_tokens) - {ours.bos_token})
    piece = st.one_of(
        st.sampled_from(tokens), st.text(max_size=8), st.sampled_from([" ", "\n", "Hi", "hello"])
    )
    text = "".join(data.draw(st.lists(piece, max_size=8)))
    if ours.bos_token not in text:
        expected = reference_of(kind).encode(text, add_special_tokens=False).ids
        assert ours.encode_rendered(text) == expected


def test_flags_of_added_tokens(tmp_path: Path) -> None:
    extra = [
        added("<|right|>", 300, rstrip=True),
        added("<|left|>", 301, lstrip=True),
        added("word", 302, single_word=True),
        added("<|re", 303),
    ]
    data = byte_level(("<|end|>",), extra=extra)
    data["model"]["vocab"] |= {"<|right|>": 300, "<|left|>": 301, "word": 302, "<|re": 303}
    tokenizer = of(tmp_path, data)
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (
        "a <|right|> \n b",
        "a \n<|left|> b",
        "<|right|> <|left|>",
        "<|right|>\x1c b\u2003<|left|>",
        "word a swordfish word",
        "<|right|<|re<|re|>",
    ):
        assert tokenizer.encode_rendered(text) == reference.encode(text).ids, text


def test_added_words_and_spaces_are_vocabulary(tmp_path: Path) -> None:
    """GPT-NeoX adds runs of spaces; fine-tunes add words; neither is structure."""
    extra = [
        added("<think>", 262, special=False),
        added("    ", 263, special=False),
        added("羊驼", 264, special=False),
        added("⟂", 265),
    ]
    tokenizer = of(tmp_path, byte_level(("<|end|>",), extra=extra))
    assert tokenizer.control_tokens == {"<|end|>": 0, "<think>": 262}
    assert tokenizer.encode_text("    羊驼") == [263, 264]
    assert tokenizer.encode_rendered("<think>    ") == [262, 263]
    assert 262 not in tokenizer.encode_text("<think>")
    # One character cannot be told from text, so it is text.
    assert 265 not in tokenizer.encode_rendered("⟂")


def test_added_words_of_a_unigram_vocabulary(tmp_path: Path) -> None:
    data = byte_level(())
    data["added_tokens"] = [added("<unk>", 0), added("<s>", 2), added("b", 3, special=False)]
    data["pre_tokenizer"] = None
    vocabulary = [["<unk>", 0.0], ["a", -1.0]]
    data["model"] = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False}
    tokenizer = of(tmp_path, data)
    assert tokenizer.encode_rendered("<s>aba") == [2, 1, 3, 1]


def test_is_control() -> None:
    assert AddedToken("<s>", 1, special=True).is_control
    assert AddedToken("word", 1, special=True).is_control
    assert AddedToken("<tool_call>", 1).is_control
    assert not AddedToken("नमस्ते", 1).is_control
    assert not AddedToken("~", 1, special=True).is_control


def test_unigram_vocabularies(tmp_path: Path) -> None:
    data = byte_level(())
    data["added_tokens"] = [added("<unk>", 0), added("</s>", 1)]
    data["pre_tokenizer"] = None
    vocabulary = [["<unk>", 0.0], ["</s>", 0.0], ["</s", -2.0], [">", -2.0], ["a", -1.0]]
    data["model"] = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False}
    tokenizer = of(tmp_path, data)
    assert tokenizer.encode_rendered("a</s>a") == [4, 1, 4]
    assert tokenizer.encode_text("a</s>a") == [4, 2, 3, 4]
    # The name that hides a piece cannot be used to reach it.
    assert 1 not in tokenizer.encode_text("\ufdef1")


def test_an_unknown_token_that_ends_the_text_cannot_be_provoked(tmp_path: Path) -> None:
    data = byte_level(("<|end|>",))
    data["pre_tokenizer"] = None
    data["model"]["unk_token"] = "<|end|>"
    tokenizer = of(tmp_path, data, tokenizer_config={"eos_token": "<|end|>"})
    assert 0 not in tokenizer.encode_text("a 🦙")


def test_bos_follows_the_config_then_the_class_then_the_post_processor(tmp_path: Path) -> None:
    data, bare = llama(legacy=True), llama(legacy=True) | {"post_processor": None}
    bos = {"bos_token": "<s>"}
    says_no = {**bos, "add_bos_token": False, "tokenizer_class": "LlamaTokenizer"}
    says_yes = {**bos, "add_bos_token": True}
    by_class = {**bos, "tokenizer_class": "LlamaTokenizerFast"}
    assert of(tmp_path / "a", data, tokenizer_config=bos).adds_bos
    assert not of(tmp_path / "b", data, tokenizer_config=says_no).adds_bos
    assert not of(tmp_path / "c", bare, tokenizer_config=bos).adds_bos
    assert of(tmp_path / "d", bare, tokenizer_config=says_yes).adds_bos
    assert of(tmp_path / "e", bare, tokenizer_config=by_class).adds_bos
    nameless = of(tmp_path / "f", data)
    assert (nameless.bos_token, nameless.adds_bos) == ("<s>", True)


def test_padding_and_truncation_in_the_file_do_not_touch_a_text(tmp_path: Path) -> None:
    # Tokenizers of embedding models are saved with what their batches were padded to.
    padding = {
        "strategy": {"Fixed": 16},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<unk>",
    }
    truncation = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    data = llama(legacy=False) | {"padding": padding, "truncation": truncation}
    tokenizer = of(tmp_path, data)
    assert (tokenizer.bos_token, tokenizer.beginning, tokenizer.ending) == ("<s>", (1,), ())
    assert len(tokenizer.encode_text("Hi" * 20)) == 20


def test_what_stands_around_a_text_by_itself(tmp_path: Path) -> None:
    data, bare = llama(legacy=True), llama(legacy=True) | {"post_processor": None}
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    with_eos = {**names, "add_eos_token": True}
    plain = of(tmp_path / "a", data, tokenizer_config=names)
    bos, eos = (plain.control_tokens[token] for token in ("<s>", "</s>"))
    assert (plain.beginning, plain.ending) == ((bos,), ())
    asked = of(tmp_path / "b", bare, tokenizer_config=with_eos)
    assert (asked.beginning, asked.ending) == ((), (eos,))
    both = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    processor = {
        "type": "TemplateProcessing",
        "single": [*both, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in (("<s>", bos), ("</s>", eos))
        },
    }
    processed = llama(legacy=True) | {"post_processor": processor}
    for number, config in enumerate((names, with_eos)):
        tokenizer = of(tmp_path / f"c{number}", processed, tokenizer_config=config)
        assert (tokenizer.beginning, tokenizer.ending) == ((bos,), (eos,))
    says_no = of(tmp_path / "d", processed, tokenizer_config={**names, "add_eos_token": False})
    assert says_no.ending == ()


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({"chat_template": "file", "tokenizer_config": {"chat_template": "config"}}, "file"),
        ({"tokenizer_config": {"chat_template": "config"}}, "config"),
        (
            {
                "tokenizer_config": {
                    "chat_template": [
                        {"name": "tool_use", "template": "tools"},
                        {"name": "default", "template": "default"},
                    ]
                }
            },
            "default",
        ),
        ({"tokenizer_config": {"chat_template": [{"name": "rag", "template": "rag"}]}}, None),
        ({}, None),
    ],
)
def test_chat_template(tmp_path: Path, files: dict[str, Any], template: str | None) -> None:
    assert of(tmp_path, byte_level(("<|end|>",)), **files).chat_template == template


def test_tokens_that_only_the_configuration_names(tmp_path: Path) -> None:
    data = byte_level(("<|end|>",))
    data["added_tokens"] = []
    config = {
        "eos_token": {"content": "<|end|>"},
        "added_tokens_decoder": {"500": {"content": "<|late|>", "special": True}},
    }
    tokenizer = of(tmp_path, data, tokenizer_config=config, added_tokens={"<|old|>": 501})
    assert tokenizer.control_tokens == {"<|old|>": 501, "<|late|>": 500, "<|end|>": 0}
    assert tokenizer.eos_token_ids == {0}
    assert tokenizer.encode_rendered("<|late|><|end|>") == [500, 0]


def test_eos_of_the_generation_config_comes_first(tmp_path: Path) -> None:
    data = byte_level(("<|a|>", "<|b|>", "<|c|>"))
    tokenizer = of(
        tmp_path,
        data,
        generation_config={"eos_token_id": [1, 2]},
        config={"eos_token_id": 0},
    )
    assert tokenizer.eos_token_ids == {1, 2}


def test_directories_without_a_usable_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        PromptTokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(SourceError, match="cannot be read as JSON"):
        PromptTokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(SourceError, match="must hold a JSON object"):
        PromptTokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 1}', encoding="utf-8")
    with pytest.raises(SourceError, match="cannot be used"):
        PromptTokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"id": 1}]}', encoding="utf-8")
    with pytest.raises(SourceError, match="added tokens cannot be read"):
        PromptTokenizer.from_directory(tmp_path)


def test_a_sentencepiece_model_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By transformers, which is replaced here: importing it takes seconds."""
    text = json.dumps(llama(legacy=True))
    backend = SimpleNamespace(to_str=lambda: text)

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(path: str, **options: bool) -> SimpleNamespace:
            assert path == str(tmp_path)
            assert options == {
                "use_fast": True,
                "local_files_only": True,
                "trust_remote_code": False,
            }
            return SimpleNamespace(backend_tokenizer=backend)

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=AutoTokenizer))
    (tmp_path / "tokenizer.model").write_bytes(b"")
    assert PromptTokenizer.from_directory(tmp_path).encode_rendered("<s>Hi") == [1, SPACE_HI]

    backend.to_str = lambda: "broken"
    with pytest.raises(SourceError, match="cannot be converted"):
        PromptTokenizer.from_directory(tmp_path)


def test_decode_can_leave_special_tokens_out(tokenizer_of: ToTokenizer) -> None:
    tokenizer = tokenizer_of("chatml")
    ids = tokenizer.encode_rendered("<|im_start|>hello<|im_end|>")
    assert tokenizer.decode(ids) == "hello"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|im_start|>hello<|im_end|>"
