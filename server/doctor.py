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
from server.commands.forecast import Forecast, forecast, lacking
from server.commands.inventory import Stock, open_registry, open_store, take_stock
from server.commands.listen import PortError, PortOwner, port_owner
from server.engines.hardware import Hardware, probe
from server.engines.ledger import RAM, NeverFits
from server.errors import RegistryError
from server.registry.values import format_bytes
from server.settings import ApiKeyError, Settings, unknown_variables

# Room that a fetch of an unknown size should at least find; the default model takes 0.6 GB.
_LITTLE_DISK = 2 * 10**9
# Both builds that pyproject.toml allows.
_VLLM_MINOR = "0.32."
_FIGURES = "corral models plan shows the figures"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was seen.

    Args:
        memory: What each engine takes, and what fits; None where the registry is wrong.
        disk_free: Bytes free where model files are kept, or None where that cannot be told.
        port_owner: Who has the port, or None if nobody has.
        port_usable: Whether the port can be listened on.
    """

    hardware: Hardware
    builds: Builds
    registry_path: Path
    stocks: Sequence[Stock]
    memory: Forecast | None
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
    memory: Forecast | None = None
    owner, port_findings = _about_port(settings, senses)
    try:
        registry = open_registry(settings)
    except RegistryError as error:
        findings += [Finding(str(problem), "mend the registry") for problem in error.problems]
    else:
        stocks = take_stock(registry, store)
        memory = forecast(registry, stocks, hardware, store, owner)
        findings += [*_about_models(stocks, memory), *_about_memory(memory, hardware)]
    disk_free = _disk_free(store.cache_dir)
    findings += _about_disk(store.cache_dir, disk_free, stocks)
    findings += [*port_findings, *_about_keys(settings)]
    for text in unknown_variables(senses.environment or os.environ):
        findings.append(Finding(text, "correct or unset it", stops=False))
    return Report(
        hardware=hardware,
        builds=builds,
        registry_path=settings.registry_path,
        stocks=stocks,
        memory=memory,
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


def _about_models(stocks: Sequence[Stock], memory: Forecast) -> Iterator[Finding]:
    for stock in stocks:
        if stock.problem:
            yield Finding(
                f"{stock.entry.id}: {stock.problem}",
                f"corral models check, then corral models fetch {stock.entry.id}",
            )
    broken = {stock.entry.id for stock in stocks if stock.problem}
    for engine in memory.engines:
        if engine.problem and engine.name not in broken:
            yield Finding(engine.problem, "correct the model's entry in the registry")


def _about_memory(memory: Forecast, hardware: Hardware) -> Iterator[Finding]:
    yield from _about_budgets(memory, hardware)
    for engine in memory.engines:
        if engine.plan is not None and isinstance(engine.alone, NeverFits):
            need = format_bytes(engine.plan.need.peak)
            yield Finding(
                f"'{engine.name}' takes {need}, {lacking(engine.alone)} more than there is for "
                "models.",
                "set a smaller context.length or engine.kv_cache, raise herd.memory, or end other "
                f"programs; {_FIGURES}",
            )
    if left_out := memory.left_out:
        names = ", ".join(engine.name for engine in left_out)
        yield Finding(
            f"Not all engines that load at the start fit together: {names} must wait.",
            f"set load: on_demand, or a smaller engine.kv_cache; {_FIGURES}",
            stops=False,
        )
    elif not memory.together:
        yield Finding(
            "The models can never all be loaded together: some will displace others.",
            f"if that is not wanted, set a smaller engine.kv_cache; {_FIGURES}",
            stops=False,
        )


def _about_budgets(memory: Forecast, hardware: Hardware) -> Iterator[Finding]:
    for device in memory.absent:
        yield Finding(
            f"herd.memory sets a budget for {device}, which is not there.",
            "correct it in the registry",
            stops=False,
        )
    for device, size in memory.said.items():
        whole = hardware.memory_total
        if device != RAM:
            whole = hardware.gpus[int(device.removeprefix("gpu"))].memory_total
        if size > whole:
            has = format_bytes(whole)
            yield Finding(
                f"herd.memory sets {format_bytes(size)} for {device}, which has {has}.",
                "set less in the registry",
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
        settings.given_admin_keys()
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
