"""What other programs are given, and what is made of their answers.

Whether they really ask is tried by scripts/try-clients.sh, which installs them.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from evaluation.errors import EndpointError, RunnerMissing, WrongUsage
from evaluation.items import Task
from evaluation.options import Options
from evaluation.questions import Asking, answer_key
from evaluation.runners import check_runner, inspect_runner, lm_eval_runner
from evaluation.runners.grouping import groups
from evaluation.store import Store
from tests.unit.evaluation.conftest import Quiet

TASK = Task.model_validate(
    {
        "category": "knowledge",
        "language": "zh",
        "max_tokens": 50,
        "items": [
            {"id": "a", "prompt": "一？", "score": {"number": 1}},
            {"id": "b", "prompt": "二？", "judge": True, "max_tokens": 9},
            {
                "id": "c",
                "prompt": "三？",
                "before": [{"role": "system", "content": "x"}],
                "score": {"number": 3},
            },
        ],
    }
)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(base_url="http://x/v1", models=("tiny",), out=tmp_path / "out", runner="lm-eval")


def test_items_are_grouped_by_their_longest_answer(options: Options, tmp_path: Path) -> None:
    with Store(tmp_path / "out") as store:
        found = groups(options, "tiny", [TASK], store, turns=True)
        assert [(group.name, [item.id for item in group.items]) for group in found] == [
            ("corral_knowledge_zh_50", ["a", "c"]),
            ("corral_knowledge_zh_9", ["b"]),
        ]
        # Without turns before the prompt, and what is known is not asked.
        store.add(answer_key(options.asking, "tiny", TASK, TASK.items[1], 0), {"text": "2"})
        (group,) = groups(options, "tiny", [TASK], store, turns=False)
        assert [item.id for item in group.items] == ["a"]


def test_lm_evals_task_file(options: Options, tmp_path: Path) -> None:
    with Store(tmp_path / "out") as store:
        (group, _) = groups(options, "tiny", [TASK], store, turns=True)
    lm_eval_runner.write_group(group, tmp_path, 0.0)
    text = (tmp_path / "corral_knowledge_zh_50.yaml").read_text("utf-8")
    tree = yaml.safe_load(text.replace("!function ", ""))
    assert tree["generation_kwargs"] == {
        "until": [],
        "max_gen_toks": 50,
        "do_sample": False,
        "temperature": 0.0,
    }
    assert tree["process_results"] == "rules.process_results"
    path = Path(tree["dataset_kwargs"]["data_files"]["test"])
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == ["一？", "三？"]
    assert lm_eval_runner.process_results(rows[0], ["答案是 1"]) == {"right": 1.0}
    assert lm_eval_runner.process_results(rows[0], ["2"]) == {"right": 0.0}
    assert lm_eval_runner.process_results({"rules": ""}, ["2"]) == {"right": 0.0}


def log(**fields: Any) -> Any:
    """What inspect says of a run."""
    output = SimpleNamespace(
        completion="1",
        stop_reason="max_tokens",
        usage=SimpleNamespace(output_tokens=7),
        time=0.5,
    )
    samples = [
        SimpleNamespace(id="a", error=None, output=output),
        SimpleNamespace(id="c", error=SimpleNamespace(message="too long"), output=None),
    ]
    return SimpleNamespace(**{"status": "success", "samples": samples, "error": None} | fields)


def test_inspects_answers_are_kept_as_ours(options: Options, tmp_path: Path, quiet: Quiet) -> None:
    with Store(tmp_path / "out") as store:
        (group, _) = groups(options, "tiny", [TASK], store, turns=True)
        inspect_runner._keep(options, "tiny", group, log(), store, quiet)
        kept = [
            store.get(answer_key(options.asking, "tiny", TASK, item, 0)) for item in group.items
        ]
        assert kept[0] is not None
        assert kept[1] is not None
        names = ("text", "finish_reason", "completion_tokens")
        assert [kept[0][name] for name in names] == ["1", "length", 7]
        assert kept[1]["error"] == "too long"
        broken = log(status="error", error=SimpleNamespace(message="gone"))
        with pytest.raises(EndpointError, match="inspect could not ask tiny: gone"):
            inspect_runner._keep(options, "tiny", group, broken, store, quiet)


def test_runners_are_looked_for_first(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RunnerMissing, match=r"pip install 'lm-eval\[api\]'"):
        check_runner(options)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    check_runner(options)
    seeds = Asking(temperature=1.0, seeds=(1, 2))
    given = Options(base_url="x", models=("tiny",), out=options.out, runner="inspect", asking=seeds)
    with pytest.raises(WrongUsage, match="neither --seeds nor --completions"):
        check_runner(given)
