"""``load_registry``: every mistake at once, each with its line, in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import RegistryError
from server.registry import load_registry
from tests.unit.registry.support_loader import Load, complaints, entry


def test_many_mistakes_are_reported_at_once_in_the_files_order(load: Load) -> None:
    text = """\
        version: 2
        modles: []
        models:
          - id: one
            source:
              directry: /weights
            template: lama-2
            sampling:
              temprature: 0.5
              top_p: 1.5
              top_k: 0
          - id: -two
            aliases: [one]
            source:
              hub: org/name
              package: thing
            context:
              length: 0
              overflow: drop
            temperature: 0.5
            engine:
              kv_cache: 12 parsecs
              compile: 1
              max_num_seqs: "8"
          - aliases: x
            description: 5
            source:
              hub: org/name
              revison: v1
            stop: ["", "ok"]
            load: never
        """
    assert complaints(load, text) == [
        "models.yaml:1: version: must be 1, not the number 2",
        "models.yaml:2: file: unknown field 'modles' (did you mean 'models'?)",
        "models.yaml:6: models.0.source: unknown field 'directry' (did you mean 'directory'?)",
        "models.yaml:7: models.0.template: unknown template 'lama-2' (did you mean 'llama-2'?)",
        (
            "models.yaml:9: models.0.sampling: unknown field 'temprature' "
            "(did you mean 'temperature'?)"
        ),
        "models.yaml:10: models.0.sampling.top_p: must be at most 1, not the number 1.5",
        "models.yaml:11: models.0.sampling.top_k: must be -1 (all tokens) or at least 1",
        (
            "models.yaml:12: models.1.id: must be letters, digits and . _ : / - , beginning with a "
            "letter or digit, not '-two'"
        ),
        "models.yaml:13: models.1.aliases.0: the name 'one' is already used by models.0",
        "models.yaml:14: models.1.source: must have only one of hub and package",
        "models.yaml:18: models.1.context.length: must be at least 1, not the number 0",
        "models.yaml:19: models.1.context.overflow: must be 'error' or 'drop_oldest', not 'drop'",
        "models.yaml:20: models.1: unknown field 'temperature' (it belongs under 'sampling')",
        (
            "models.yaml:22: models.1.engine.kv_cache: must be a size such as 512MiB or "
            "16384 tokens, "
            "not '12 parsecs'"
        ),
        "models.yaml:23: models.1.engine.compile: must be true or false, not the number 1",
        "models.yaml:24: models.1.engine.max_num_seqs: must be a whole number, not '8'",
        "models.yaml:25: models.2.id: is required",
        "models.yaml:25: models.2.aliases: must be a list, not 'x'",
        "models.yaml:26: models.2.description: must be text, not the number 5; put it in quotes",
        "models.yaml:29: models.2.source: unknown field 'revison' (did you mean 'revision'?)",
        "models.yaml:30: models.2.stop.0: must not be empty",
        "models.yaml:31: models.2.load: must be 'startup' or 'on_demand', not 'never'",
    ]


def test_mistakes_about_the_herd(load: Load) -> None:
    text = """\
        herd:
          memroy: 1
          memory:
            gpu: 70GiB
        models:
          - id: one
            source: {hub: org/name}
            memory: 1GiB
        """
    assert complaints(load, text) == [
        "models.yaml:2: herd: unknown field 'memroy' (did you mean 'memory'?)",
        "models.yaml:3: herd.memory: must name devices ram, gpu0, gpu1 and so on, not 'gpu'",
        "models.yaml:8: models.0: unknown field 'memory' (it belongs under 'herd')",
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["context: 8"], "5: models.0.context: must be a mapping of fields, not the number 8"),
        (["context:"], "5: models.0.context: must be a mapping of fields, not nothing"),
        (["stop: [5]"], "5: models.0.stop.0: must be text, not the number 5; put it in quotes"),
        (["stop:", f"- {'x' * 65}"], "6: models.0.stop.0: must be at most 64 characters long"),
        (
            [f"stop: [{', '.join('a' * 17)}]"],
            "5: models.0.stop: must list at most 16, not 17",
        ),
        (
            ["sampling: {seed: 1.5}"],
            "5: models.0.sampling.seed: must be a whole number, not the number 1.5",
        ),
        (
            ["sampling: {temperature: hot}"],
            "5: models.0.sampling.temperature: must be a number, not 'hot'",
        ),
        (
            ["sampling: {temperature: .nan}"],
            "5: models.0.sampling.temperature: must be at most 2, not the number nan",
        ),
        (
            ["sampling:", "  repetition_penalty: 0"],
            "6: models.0.sampling.repetition_penalty: must be more than 0, not the number 0",
        ),
        (
            ["sampling: {id: 5}"],
            "5: models.0.sampling: unknown field 'id' (it belongs to the model itself, "
            "one level up)",
        ),
        (["aliases: [one]"], "5: models.0.aliases.0: the name 'one' is already used by this model"),
        (["1: x"], ("5: models.0: unknown field '1' (known: adapter, aliases, base, context, "
         "description, engine, history, id, idle_timeout, kind, load, pin, reasoning_parser, "
             "sampling, sleep_after, sleep_level, source, stop, system, template, tool_parser)")),
        (["idle_timeout: soon"], "5: models.0.idle_timeout: must be a length of time such as 90s, "
         "15m or 2h, not 'soon'"),
        (["idle_timeout: -1"], "5: models.0.idle_timeout: must be a length of time such as 90s, "
         "15m or 2h, not '-1'"),
        (["sleep_level: 3"], "5: models.0.sleep_level: must be 1 or 2, not the number 3"),
        (["engine: {extra: {1: x}}"], "5: models.0.engine.extra: the field name 1 must be text"),
        (["load: startup", "load: on_demand"], "6: models.0: 'load' is given twice"),
        (["engine: &e {extra: {a: *e}}"], "5: models.0.engine.extra.a: refers to itself"),
    ],
)  # fmt: skip
def test_one_mistake(load: Load, lines: list[str], expected: str) -> None:
    (found, *more) = complaints(load, entry(*lines))
    assert found == f"models.yaml:{expected}"
    assert not more


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "2: models.0.source: must be a mapping with one of directory, hub, package"),
        (" org/name", "2: models.0.source: must be a mapping with one of directory, hub, package"),
        (" {}", "2: models.0.source: must have one of directory, hub, package"),
        (" {revision: v1}", "2: models.0.source: must have one of directory, hub, package"),
        (
            " {zzz: 1}",
            "2: models.0.source: unknown field 'zzz' (known: directory, hub, package)",
        ),
        (
            " {hub: name}",
            "2: models.0.source.hub: must be a repository as organisation/name, not 'name'",
        ),
        (" {hub: 5}", "2: models.0.source.hub: must be text, not the number 5; put it in quotes"),
        (" {directory: 5}", ("2: models.0.source.directory: must be text, not the number 5; "
         "put it in quotes")),
        (' {directory: ""}', "2: models.0.source.directory: must name a folder"),
        (
            " {package: p, version: 1.0, file: a.gguf}",
            "2: models.0.source.version: must be text, not the number 1.0; put it in quotes",
        ),
        (
            " {package: p, version: 1.0.0, file: ../a.gguf}",
            "2: models.0.source.file: must be a path inside the wheel, such as package/model.gguf",
        ),
        (
            " {package: p, version: 1.0.0, file: a.bin}",
            "2: models.0.source.file: must name a .gguf or .zip file",
        ),
        (
            " {package: p, version: 1.0.0, file: a.gguf, sha256: ABC}",
            "2: models.0.source.sha256: must be 64 lower-case hexadecimal digits, not 'ABC'",
        ),
    ],
)  # fmt: skip
def test_wrong_sources(load: Load, source: str, expected: str) -> None:
    text = f"models:\n  - {{id: a, source: {source}}}" if source else None
    text = text or "models:\n  - {id: a, source: }"
    assert complaints(load, text) == [f"models.yaml:{expected}"]


def test_a_missing_source_names_the_kinds(load: Load) -> None:
    assert complaints(load, "models:\n  - id: a") == [
        "models.yaml:2: models.0.source: is required: one of directory, hub, package; or 'base' "
        "and 'adapter' for an adapter"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: file: is empty; it needs the field 'models' with at least one model"),
        ("# nothing\n", "1: file: is empty; it needs the field 'models' with at least one model"),
        ("- id: x", "1: file: must be a mapping with the field 'models'"),
        ("version: 1", "1: models: is required"),
        ("version: 1\nmodels: []", "2: models: must list at least one"),
        ("version: 1\nmodels: {}", "2: models: must be a list, not a mapping"),
        ("models:\n  - id: [", ("2: file: is not valid YAML: while parsing a flow node, expected "
         "the node content, but found '<stream end>'")),
        ("models:\n\t- id: x", ("2: file: is not valid YAML: while scanning for the next token, "
         "found character '\\t' that cannot start any token (indent with spaces, not with tabs)")),
        ("models: *nowhere", "1: file: is not valid YAML: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2", ("2: file: is not valid YAML: expected a single document in the "
         "stream, but found another document")),
        ("x: !!python/name:os.system", ("1: file: is not valid YAML: could not determine a "
         "constructor for the tag 'tag:yaml.org,2002:python/name:os.system'")),
        ("a: 1\nb: \x00", "2: file: holds a character that YAML does not allow"),
        ("[" * 5000, "1: file: is nested too deeply"),
        ("x: !!int y", ("1: file: holds a value that cannot be read: invalid literal for int() "
         "with base 10: 'y'")),
    ],
)  # fmt: skip
def test_files_that_are_no_registry(load: Load, text: str, expected: str) -> None:
    assert complaints(load, text)[0] == f"models.yaml:{expected}"


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("latin.yaml").write_bytes(b"models: \xff")
    expected = {
        "none.yaml": "none.yaml: file: does not exist; give the registry's path with --registry "
        "or CORRAL_REGISTRY",
        "folder": "folder: file: is a folder; give the path of the YAML file itself",
        "latin.yaml": "latin.yaml: file: is not UTF-8 text (byte 8)",
    }
    for name, message in expected.items():
        with pytest.raises(RegistryError) as caught:
            load_registry(Path(name))
        assert str(caught.value) == message


def test_lines_are_right_behind_anchors_and_merged_keys(load: Load) -> None:
    text = """\
        models:
          - id: one
            source: &weights
              directory: here
            sampling: &cool
              temperature: 9
          - id: two
            source: *weights
            sampling:
              <<: *cool
              top_p: 2
          - id: three
            source: *weights
            sampling:
              <<: *cool
              temperature: 0.5
        """
    assert complaints(load, text) == [
        "models.yaml:6: models.0.sampling.temperature: must be at most 2, not the number 9",
        "models.yaml:6: models.1.sampling.temperature: must be at most 2, not the number 9",
        "models.yaml:11: models.1.sampling.top_p: must be at most 1, not the number 2",
    ]
