from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from server.engines.base import Engine
from server.engines.slot import EngineSlot
from server.errors import ModelNotFound
from server.prompts.catalog import FORMATS
from server.registry.schema import TEMPLATES_CONTEXT, Registry
from tests.support.ranch import CONTEXT, VOCABULARY, Ranch, until, write_tiny_model


@pytest.fixture
def ranch(tmp_path: Path) -> Ranch:
    one = {"id": "one", "aliases": ["uno"], "context": {"length": 100}}
    two = {"id": "two", "context": {"length": 200}, "load": "on_demand"}
    engine = {"threads": 1, "binding": "0", "dtype": "float32"}
    other = {"id": "other", "load": "on_demand", "engine": engine}
    directory = write_tiny_model(tmp_path / "model")
    return Ranch(directory, tmp_path / "cache", [one, two, other])


async def test_entries_over_the_same_weights_share_an_engine(ranch: Ranch) -> None:
    one, two, other = ranch.herd.models()
    assert ranch.herd.resolve("uno") is one
    assert one.engines is two.engines
    assert one.engines is not other.engines
    assert ranch.herd.models_of(one.engines) == [one, two]
    ranch.herd.load_at_startup()
    await until(lambda: one.engines.state.status == "ready")
    assert [spec.name for spec in ranch.specs] == ["one"]
    assert ranch.specs[0].max_model_len == 200, "the longest context of those who share it"
    await ranch.herd.close()
    assert not ranch.engines[0].alive


async def test_what_an_engine_is_told(ranch: Ranch, tmp_path: Path) -> None:
    for name in ("one", "other"):
        with await ranch.herd.resolve(name).engines.acquire([1], wait_seconds=5):
            pass
    shared, other = ranch.specs
    assert shared.model_dir == tmp_path / "model"
    assert (shared.weight_bytes, shared.architecture) == (2048, "LlamaForCausalLM")
    # 2 layers, keys and values, 2 heads of 16 numbers, 2 bytes each.
    assert (shared.kv_bytes_per_token, other.kv_bytes_per_token) == (256, 512)
    assert (other.max_model_len, other.dtype) == (CONTEXT, "float32")
    assert (other.threads, other.binding) == (1, "0")
    await ranch.herd.close()


async def test_the_formatter_brings_what_is_known_of_the_model(ranch: Ranch) -> None:
    model = ranch.herd.resolve("two")
    assert (model.context_length, model.vocab_size) == (0, 0)
    formatter = await model.formatter()
    assert (model.context_length, model.vocab_size) == (200, VOCABULARY)
    assert await model.formatter() is formatter
    assert ranch.engines == [], "rendering needs no engine"


async def test_no_such_model(ranch: Ranch) -> None:
    with pytest.raises(ModelNotFound):
        ranch.herd.resolve("ONE")


# --- another registry ---------------------------------------------------------------------------


def registry(ranch: Ranch, **changes: dict[str, Any] | None) -> Registry:
    """The ranch's registry with other fields for some entries; None leaves an entry out."""
    said = ranch.registry.model_dump(mode="json", exclude_defaults=True)
    entries = []
    for entry in said["models"]:
        change = changes.pop(entry["id"], {})
        if change is not None:
            entries.append(entry | change)
    source = said["models"][0]["source"]
    entries += [{"id": name, "source": source} | (new or {}) for name, new in changes.items()]
    return Registry.model_validate(said | {"models": entries}, context={TEMPLATES_CONTEXT: FORMATS})


async def use(ranch: Ranch, name: str) -> Engine:
    with await ranch.herd.resolve(name).engines.acquire([1], wait_seconds=5) as engine:
        return engine


async def test_what_does_not_concern_engines_leaves_them_alone(ranch: Ranch) -> None:
    engine = await use(ranch, "one")
    before = ranch.herd.resolve("one")
    changes = ranch.herd.replace(
        registry(ranch, one={"description": "New."}, three={"context": {"length": 150}})
    )
    assert (changes.added, changes.removed, changes.changed) == (("three",), (), ("one",))
    assert ranch.herd.resolve("one") is not before
    assert ranch.herd.resolve("one").entry.description == "New."
    assert await use(ranch, "one") is engine
    assert await use(ranch, "three") is engine, "its context is no longer than the engine's"
    assert ranch.herd.resolve("two") is not None


async def test_an_unchanged_entry_keeps_what_was_made_for_it(ranch: Ranch) -> None:
    formatter = await ranch.herd.resolve("two").formatter()
    changes = ranch.herd.replace(registry(ranch, other=None))
    assert (changes.added, changes.removed, changes.changed) == ((), ("other",), ())
    assert await ranch.herd.resolve("two").formatter() is formatter
    with pytest.raises(ModelNotFound):
        ranch.herd.resolve("other")


async def test_a_longer_context_takes_another_engine(ranch: Ranch) -> None:
    old = await use(ranch, "one")
    with await ranch.herd.resolve("one").engines.acquire([1], wait_seconds=5) as held:
        ranch.herd.replace(registry(ranch, two={"context": {"length": 300}}))
        new = await use(ranch, "one")
        assert (new is old, held is old) == (False, True)
        assert old.alive, "it is still in use"
    await until(lambda: not old.alive)
    assert new.alive
    assert ranch.specs[-1].max_model_len == 300
    assert len(ranch.pool.slots) == 2


async def test_a_removed_engine_ends_when_nobody_uses_it(ranch: Ranch) -> None:
    other, one = await use(ranch, "other"), await use(ranch, "one")
    changes = ranch.herd.replace(registry(ranch, other=None))
    assert changes.removed == ("other",)
    await until(lambda: not other.alive)
    assert one.alive
    assert len(ranch.pool.ledger.holdings) == 1


async def test_how_engines_are_kept_changes_while_they_run(ranch: Ranch) -> None:
    engine = await use(ranch, "one")
    ranch.herd.replace(registry(ranch, two={"pin": True, "idle_timeout": "2h"}))
    (slot,) = ranch.herd.resolve("one").engines.slots
    assert slot.options.pinned
    assert slot.options.idle_timeout is None, "one of the two entries wants it to stay"
    assert slot.engine is engine


async def test_rules_and_budget(ranch: Ranch) -> None:
    assert ranch.pool.ledger.budgets == {"ram": 1 << 40}
    said = registry(ranch).model_dump(mode="json", exclude_defaults=True)
    rules = {"memory": "3GiB", "max_wait": "1m", "min_residency": 5, "drain": "500ms"}
    ranch.herd.replace(Registry.model_validate(said | {"herd": rules}))
    assert ranch.pool.ledger.budgets == {"ram": 3 << 30}
    policy = ranch.pool.policy
    assert (policy.max_wait, policy.min_residency, policy.drain) == (60, 5, 0.5)


async def test_replicas_share_the_work(ranch: Ranch) -> None:
    ranch.herd.replace(registry(ranch, many={"engine": {"replicas": 3, "threads": 2}}))
    engines = ranch.herd.resolve("many").engines
    assert len(engines.slots) == 3
    for slot in engines.slots:
        ranch.pool.want(slot)
    await until(lambda: all(slot.engine for slot in engines.slots))
    leases = [await engines.acquire([number], wait_seconds=5) for number in range(6)]
    assert [slot.running for slot in engines.slots] == [2, 2, 2]
    for lease in leases:
        with lease:
            pass
    assert engines.state.requests == 0


async def test_a_prompt_goes_where_its_beginning_is_known(ranch: Ranch) -> None:
    ranch.herd.replace(registry(ranch, many={"engine": {"replicas": 2, "threads": 2}}))
    engines = ranch.herd.resolve("many").engines
    for slot in engines.slots:
        ranch.pool.want(slot)
    await until(lambda: all(slot.engine for slot in engines.slots))
    one, two = engines.slots

    async def where(prompt: list[int], *, busy: Sequence[EngineSlot] = ()) -> EngineSlot:
        held = [await slot.acquire(wait_seconds=5) for slot in busy]
        before = {slot: slot.running for slot in engines.slots}
        with await engines.acquire(prompt, wait_seconds=5):
            (chosen,) = [slot for slot in engines.slots if slot.running > before[slot]]
        for lease in held:
            with lease:
                pass
        return chosen

    system = list(range(200))
    assert await where(system) is one
    assert await where(list(range(500, 700)), busy=[one]) is two
    assert await where([*system, 1, 2, 3]) is one
    assert await where([*system, 1, 2, 3], busy=[one, one]) is one, "hardly busier"
    assert await where([*system, 1, 2, 3], busy=[one, one, one]) is two, "too busy"
    two.tenure.engine.kill()  # type: ignore[union-attr]
    assert await where(list(range(500, 700))) is one, "the other one is gone"
