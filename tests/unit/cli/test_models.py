"""``corral models``."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import Result

Corral = Callable[..., Result]


def test_list(registry: Path, corral: Corral) -> None:
    result = corral("models", "list")
    assert result.exit_code == 0
    size = sum(path.stat().st_size for path in (registry.parent / "tiny").iterdir())
    folder = str(registry.parent / "tiny")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["model", "template", "source", "context", "files", "aliases"],
        ["tiny", "auto", folder, "512", f"{size / 1000:.1f}", "kB", "org/tiny"],
        ["tiny-raw", "raw", folder, "512", f"{size / 1000:.1f}", "kB", "-"],
    ]
    assert result.stderr == ""


def test_list_for_scripts(registry: Path, corral: Corral) -> None:
    first, second = json.loads(corral("models", "list", "--json").stdout)
    assert first["id"] == "tiny"
    assert first["context"] == 512
    assert first["path"] == str(registry.parent / "tiny")
    assert first["problem"] is None
    assert second["shares_engine_with"] == "tiny"
    assert second["load"] == "on_demand"


def test_what_is_not_here_is_said(registry: Path, corral: Corral) -> None:
    registry.write_text("models:\n  - id: far\n    source: {hub: org/far}\n")
    line = corral("models", "list").stdout.splitlines()[1]
    assert line.split() == ["far", "auto", "org/far", "?", "not", "fetched", "-"]
    shown = corral("models", "show", "far").stdout
    assert "memory    unknown until the files are here" in shown


def test_show_by_alias(registry: Path, corral: Corral) -> None:
    result = corral("models", "show", "org/tiny")
    assert result.exit_code == 0
    for line in (
        "tiny",
        "A tiny model.",
        "aliases       org/tiny",
        "context       512 tokens; what does not fit: drop_oldest",
        "sampling      temperature 0.5",
        "weights       2.0 kB (bfloat16)",
        "KV cache      256 bytes a token",
        "              131.1 kB for one full context",
    ):
        assert line in result.stdout.splitlines()


def test_show_for_scripts(registry: Path, corral: Corral) -> None:
    shown = json.loads(corral("models", "show", "tiny-raw", "--json").stdout)
    assert shown["memory"] == {
        "weights": 2048,
        "kv_per_token": 256,
        "kv_full_context": 131072,
        "dtype": "bfloat16",
        "architecture": "LlamaForCausalLM",
    }


def test_an_unknown_model(registry: Path, corral: Corral) -> None:
    result = corral("models", "show", "nope")
    assert result.exit_code == 1
    assert result.stderr == (
        "corral: The registry has no model 'nope'; 'corral models list' shows what it has.\n"
    )


def test_fetch_prints_where_the_files_are(registry: Path, corral: Corral) -> None:
    result = corral("models", "fetch", "--all")
    folder = registry.parent / "tiny"
    assert result.stdout == f"tiny: {folder}\ntiny-raw: {folder}\n"
    assert result.exit_code == 0


def test_fetch_goes_on_after_a_failure_and_tells_of_it(registry: Path, corral: Corral) -> None:
    gone = "  - id: gone\n    source: {directory: gone}\n"
    registry.write_text("models:\n" + gone + registry.read_text().split("\n", 1)[1])
    result = corral("models", "fetch", "gone", "tiny")
    assert result.exit_code == 1
    assert result.stdout == f"tiny: {registry.parent / 'tiny'}\n"
    folder = registry.parent / "gone"
    assert result.stderr == f"corral: gone: The model folder {folder} does not exist.\n"


@pytest.mark.parametrize("args", [(), ("tiny", "--all")])
def test_fetch_wants_to_know_what(registry: Path, corral: Corral, args: tuple[str, ...]) -> None:
    result = corral("models", "fetch", *args)
    assert result.exit_code == 2
    assert "name the models to fetch, or pass --all" in result.stderr


def test_remove_leaves_a_folder_of_ones_own_alone(registry: Path, corral: Corral) -> None:
    result = corral("models", "remove", "tiny")
    assert result.stdout == "tiny: your own folder is left alone\n"
    assert (registry.parent / "tiny" / "model.safetensors").exists()


def test_schema_accepts_the_registry(registry: Path, corral: Corral) -> None:
    schema = json.loads(corral("models", "schema").stdout)
    jsonschema.validate(yaml.safe_load(registry.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            {"models": [{"id": "x", "source": {"hub": "a/b"}, "template": "no"}]}, schema
        )


def test_check_finds_nothing(registry: Path, corral: Corral) -> None:
    result = corral("models", "check")
    assert result.exit_code == 0
    assert result.stdout == "model_registry.yaml: 2 models, nothing is wrong\n"
    assert result.stderr == "ok    tiny\nok    tiny-raw\n"


def test_check_knows_what_was_never_fetched(registry: Path, corral: Corral) -> None:
    registry.write_text("models:\n  - id: far\n    source: {hub: org/far}\n")
    result = corral("models", "check")
    assert (result.exit_code, result.stderr) == (0, "ok    far: not fetched yet\n")


def test_check_prints_every_problem_of_the_file(registry: Path, corral: Corral) -> None:
    registry.write_text("models:\n  - id: a b\n    source: {hub: x/y}\n    template: alpca\n")
    result = corral("models", "check")
    assert result.exit_code == 1
    first, second = result.stderr.splitlines()
    assert first.startswith("wrong model_registry.yaml:2: models.0.id: must be")
    assert second == (
        "wrong model_registry.yaml:4: models.0.template: unknown template 'alpca' "
        "(did you mean 'alpaca'?)"
    )


def test_check_finds_a_context_that_is_too_long(registry: Path, corral: Corral) -> None:
    text = registry.read_text()
    registry.write_text(text.replace("{overflow: drop_oldest}", "{length: 9999}"))
    result = corral("models", "check")
    assert result.exit_code == 1
    assert "context.length is 9999 tokens, but the model's own maximum is 512" in result.stderr


def test_check_finds_a_template_of_another_model(registry: Path, corral: Corral) -> None:
    registry.write_text(registry.read_text().replace("template: raw", "template: llama-3"))
    result = corral("models", "check")
    assert result.exit_code == 1
    assert "tiny-raw: the format 'llama-3' writes <|eot_id|>, which is no token" in result.stderr
    assert "tiny-raw: the format 'llama-3' begins with BOS" in result.stderr
    assert "ok    tiny\n" in result.stderr


def test_check_asks_no_chat_of_an_embedding_model(registry: Path, corral: Corral) -> None:
    (registry.parent / "tiny" / "chat_template.jinja").unlink()
    registry.write_text(registry.read_text().replace("template: raw", "kind: embedding"))
    result = corral("models", "check")
    assert result.exit_code == 1
    assert "wrong tiny: This model has no chat template of its own" in result.stderr
    assert "ok    tiny-raw\n" in result.stderr
    (registry.parent / "tiny" / "tokenizer.json").write_text("{")
    assert "wrong tiny-raw: " in corral("models", "check").stderr


def test_check_finds_a_half_model(registry: Path, corral: Corral) -> None:
    weights = registry.parent / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    result = corral("models", "check")
    assert result.exit_code == 1
    assert "model.safetensors has" in result.stderr
