"""What this machine is, what the registry asks of it, and what keeps the two apart.

``examine`` only looks: it starts nothing, fetches nothing, and imports neither torch nor vLLM.
Printing is ``commands.doctor_screen``'s work.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.commands.builds import CPU_ENGINE, GPU_ENGINE, Builds, find_builds
from server.commands.inventory import Stock, open_registry, open_store, take_stock
from server.commands.listen import PortError, PortOwner, port_owner
from server.engines.hardware import Hardware, probe
from server.engines.lora_args import adapters_bytes
from server.engines.plan import CPU_OVERHEAD_BYTES, CPU_WEIGHT_COPIES, Choice, plan_engine
from server.errors import CorralError, RegistryError
from server.generation.herd import ModelFiles, engine_spec
from server.prompts.tokenizer import PromptTokenizer
from server.registry.schema import ModelEntry, Registry
from server.registry.values import format_bytes
from server.settings import ApiKeyError, Settings, unknown_variables

# Room that a fetch of an unknown size should at least find; the default model takes 0.6 GB.
_LITTLE_DISK = 2 * 10**9
# Both builds that pyproject.toml allows.
_VLLM_MINOR = "0.32."


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Args:
        what: What is wrong.
        remedy: What to do about it.
        stops: Whether it keeps the server, or a model, from serving.
    """

    what: str
    remedy: str
    stops: bool = True


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine as it would be started.

    Args:
        models: Ids of the entries that it serves.
        need: Bytes it takes while it loads (CPU), or 0 where that is vLLM's to decide.
        choices: Its settings with their reasons; empty where it cannot be planned.
        problem: Why it cannot be planned, or "".
    """

    models: tuple[str, ...]
    need: int
    choices: tuple[Choice, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was seen.

    Args:
        disk_free: Bytes free where model files are kept, or None where that cannot be told.
        port_owner: Who has the port, or None if nobody has.
        port_usable: Whether the port can be listened on.
    """

    hardware: Hardware
    builds: Builds
    registry_path: Path
    stocks: Sequence[Stock]
    engines: Sequence[EngineReport]
    cache_dir: Path
    disk_free: int | None
    host: str
    port: int
    port_owner: PortOwner | None
    port_usable: bool
    findings: Sequence[Finding]

    @property
    def healthy(self) -> bool:
        """Whether nothing keeps it from serving."""
        return not any(finding.stops for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Senses:
    """How the doctor looks at the machine; tests put their own in place."""

    hardware: Callable[[], Hardware] = probe
    builds: Callable[[], Builds] = find_builds
    port_owner: Callable[[str, int], PortOwner | None] = port_owner
    environment: Mapping[str, str] | None = None


def examine(settings: Settings, senses: Senses | None = None) -> Report:
    """Look at everything that `corral serve` with these settings would meet."""
    senses = senses or Senses()
    hardware, builds = senses.hardware(), senses.builds()
    findings = [*_about_builds(builds, hardware)]
    store = open_store(settings)
    stocks: list[Stock] = []
    engines: list[EngineReport] = []
    try:
        registry = open_registry(settings)
    except RegistryError as error:
        findings += [Finding(str(problem), "mend the registry") for problem in error.problems]
    else:
        stocks = take_stock(registry, store)
        engines = [*_engines(registry, stocks, hardware)]
        findings += [*_about_models(stocks, engines), *_about_memory(registry, engines, hardware)]
    disk_free = _disk_free(store.cache_dir)
    findings += _about_disk(store.cache_dir, disk_free, stocks)
    owner, port_findings = _about_port(settings, senses)
    findings += [*port_findings, *_about_keys(settings)]
    for text in unknown_variables(senses.environment or os.environ):
        findings.append(Finding(text, "correct or unset it", stops=False))
    return Report(
        hardware=hardware,
        builds=builds,
        registry_path=settings.registry_path,
        stocks=stocks,
        engines=engines,
        cache_dir=store.cache_dir,
        disk_free=disk_free,
        host=settings.host,
        port=settings.port,
        port_owner=owner,
        port_usable=not port_findings,
        findings=findings,
    )


def _about_builds(builds: Builds, hardware: Hardware) -> Iterator[Finding]:
    engines = builds.engines
    if not engines:
        which = "gpu" if hardware.gpus else "cpu"
        yield Finding(
            "No inference engine is installed.",
            f"in a checkout: make serve BUILD={which}; elsewhere: pip install 'corral[{which}]'",
        )
    if len(engines) > 1:
        yield Finding(
            f"Two builds of vLLM are installed over each other ({builds.engine}).",
            "make a new virtual environment with one of them: make clean serve",
        )
    elif CPU_ENGINE in engines and hardware.gpus:
        yield Finding(
            f"There is a GPU ({hardware.gpus[0].name}), and the CPU build of vLLM is installed.",
            "install the GPU build: make serve BUILD=gpu",
        )
    elif GPU_ENGINE in engines and not hardware.gpus:
        yield Finding(
            f"The GPU build of vLLM is installed, and there is no NVIDIA GPU: {hardware.no_gpu}.",
            "mend that, or install the CPU build: make serve BUILD=cpu",
        )
    for name, version in engines.items():
        if not version.startswith(_VLLM_MINOR):
            yield Finding(
                f"{name} {version} is installed; Corral is made for {_VLLM_MINOR}*.",
                f"pip install '{name}=={_VLLM_MINOR}*'",
                stops=False,
            )
    if engines and builds.torch is None:
        yield Finding("torch is not installed.", "install everything anew: make clean serve")
    yield from _about_companions(builds)


def _about_companions(builds: Builds) -> Iterator[Finding]:
    if builds.torch is None or "+cpu" not in builds.torch:
        return
    for name, version in builds.companions.items():
        if "+cpu" not in version:
            yield Finding(
                f"{name} {version} is a CUDA build beside torch {builds.torch}: models may fail to "
                "import.",
                f"pip uninstall {name} (a text server does not need it)",
            )


def _engines(
    registry: Registry, stocks: Sequence[Stock], hardware: Hardware
) -> Iterator[EngineReport]:
    """Plan every engine whose files are here."""
    by_id = {stock.entry.id: stock for stock in stocks}
    for entries in registry.engine_groups().values():
        names = tuple(entry.id for entry in entries)
        stock = by_id[names[0]]
        if stock.path is None or stock.problem:
            continue
        try:
            ranks = [a.rank for name in names if (a := by_id[name].adapter) is not None]
            yield _planned(names, entries, stock, ranks, hardware)
        except CorralError as error:
            yield EngineReport(names, 0, (), str(error))


def _planned(
    names: tuple[str, ...],
    entries: list[ModelEntry],
    stock: Stock,
    ranks: Sequence[int],
    hardware: Hardware,
) -> EngineReport:
    assert stock.path is not None
    assert stock.info is not None
    tokenizer = PromptTokenizer.from_directory(stock.path)
    spec = engine_spec(entries, ModelFiles(stock.path, stock.info, tokenizer), ranks)
    plan = plan_engine(spec, hardware)
    need = 0
    if plan.device == "cpu":
        kv_cache = int(plan.engine_args["kv_cache_memory_bytes"])
        workers = spec.tensor_parallel_size * spec.pipeline_parallel_size
        each = CPU_OVERHEAD_BYTES + adapters_bytes(spec, cpu=True) + kv_cache
        need = CPU_WEIGHT_COPIES * spec.weight_bytes + workers * each
    return EngineReport(names, need, plan.choices)


def _about_models(stocks: Sequence[Stock], engines: Sequence[EngineReport]) -> Iterator[Finding]:
    for stock in stocks:
        if stock.problem:
            yield Finding(
                f"{stock.entry.id}: {stock.problem}",
                f"corral models check, then corral models fetch {stock.entry.id}",
            )
    for engine in engines:
        if engine.problem:
            yield Finding(engine.problem, "see 'memory' above and the model's entry")


def _about_memory(
    registry: Registry, engines: Sequence[EngineReport], hardware: Hardware
) -> Iterator[Finding]:
    at_start = {entry.id for entry in registry.models if entry.load == "startup"}
    needs = [engine.need for engine in engines if at_start & set(engine.models)]
    free = hardware.memory_available
    if len(needs) > 1 and sum(needs) > free:
        yield Finding(
            f"The {len(needs)} engines that load at start need {format_bytes(sum(needs))}, "
            f"and {format_bytes(free)} are free.",
            "set load: on_demand for some, or a smaller engine.kv_cache",
            stops=False,
        )


def _about_disk(folder: Path, free: int | None, stocks: Sequence[Stock]) -> Iterator[Finding]:
    existing = _existing(folder)
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            f"The cache folder {folder} cannot be written.",
            "change its owner or mode, or point CORRAL_CACHE_DIR at another",
        )
    missing = [stock.entry.id for stock in stocks if not stock.is_here]
    if missing and free is not None and free < _LITTLE_DISK:
        yield Finding(
            f"{format_bytes(free)} are free in {folder}, and {missing[0]} is yet to be fetched.",
            "free some, or point CORRAL_CACHE_DIR at a larger disk",
            stops=False,
        )


def _about_port(settings: Settings, senses: Senses) -> tuple[PortOwner | None, Sequence[Finding]]:
    try:
        owner = senses.port_owner(settings.host, settings.port)
    except PortError as error:
        return None, [Finding(error.what, error.remedy or "choose another address or port")]
    if owner is None:
        return None, []
    return owner, [
        Finding(
            f"Port {settings.port} on {settings.host} is in use by {owner}.",
            "stop it, or choose another port with --port or CORRAL_PORT",
            # A Corral on this port is what most people hope to see.
            stops=owner.corral is None,
        )
    ]


def _about_keys(settings: Settings) -> Iterator[Finding]:
    try:
        keys = settings.given_keys()
    except ApiKeyError as error:
        yield Finding(error.what, error.remedy)
        return
    if not (keys or settings.on_loopback or settings.allow_no_key):
        yield Finding(
            f"Serving on {settings.host} without an API key is refused.",
            "set CORRAL_API_KEY ('auto' makes one), or pass --allow-no-key to corral serve",
        )


def _disk_free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(_existing(folder)).free
    except OSError:
        return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
