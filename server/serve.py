"""``corral serve``: settings to a listening server, and its end."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from rich.panel import Panel
from rich.table import Table

from server import __version__
from server.app import create_app
from server.console import FetchBars, err
from server.engines import vllm_engine
from server.engines.base import Engine, EngineSpec
from server.engines.hardware import probe
from server.engines.plan import plan_engine
from server.engines.pool import Report
from server.errors import CorralError
from server.generation.herd import Herd
from server.prompts.catalog import FORMATS
from server.registry.loader import load_registry
from server.registry.sources import ModelStore, default_cache_dir
from server.settings import Settings

# Exit codes, as sysexits.h has them.
EXIT_CONFIG = 78
EXIT_UNAVAILABLE = 69


class ServeError(CorralError):
    """The server cannot start.

    Args:
        message: What is wrong and what to do.
        exit_code: For the shell.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; return the process's exit code.

    Raises:
        ServeError: The port is taken, or listening there would be unsafe.
        RegistryError: The registry file is wrong.
    """
    started = time.monotonic()
    keys = settings.keys()
    _refuse_open_door(settings, keys)
    registry = load_registry(settings.registry, known_templates=FORMATS)
    listener = _listen(settings.host, settings.port)
    hardware = probe()
    # Before anything heavy: engines are forked from a process that imports vLLM while we do.
    vllm_engine.prepare(forkserver=not hardware.gpus)
    cache_dir = settings.cache_dir or default_cache_dir()
    herd = Herd(registry, ModelStore(cache_dir), _engine_factory(cache_dir), FetchBars)
    app = create_app(
        herd,
        keys=keys,
        load_wait_seconds=settings.load_wait_seconds,
        max_running=settings.max_running,
        max_body_bytes=settings.max_body_bytes,
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=settings.drain_seconds,
        server_header=False,
    )
    server = uvicorn.Server(config)
    return asyncio.run(_run(server, listener, herd, settings, keys, started))


async def _run(
    server: uvicorn.Server,
    listener: socket.socket,
    herd: Herd,
    settings: Settings,
    keys: Sequence[str],
    started: float,
) -> int:
    url = f"http://{_shown_host(settings.host)}:{listener.getsockname()[1]}"
    _show_start(url, herd, settings, keys)
    watcher = asyncio.create_task(_report_loads(herd, started))
    await server.serve(sockets=[listener])
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    return 0


def _refuse_open_door(settings: Settings, keys: Sequence[str]) -> None:
    if keys or settings.on_loopback or settings.allow_no_key:
        return
    raise ServeError(
        f"Refusing to listen on {settings.host} without an API key: anybody who reaches this "
        "machine could use it. Set CORRAL_API_KEY (or 'auto' to have one made), or pass "
        "--allow-no-key if that is what you want.",
        EXIT_CONFIG,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ServeError: The address cannot be used; says why.
    """
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"Port {port} on {host} is in use, perhaps by another corral. Stop that one, or "
                f"choose another: make serve PORT={port + 1}",
                EXIT_UNAVAILABLE,
            ) from None
        raise ServeError(f"Cannot listen on {host}:{port}: {error}", EXIT_UNAVAILABLE) from None
    listener.setblocking(False)
    return listener


def _engine_factory(cache_dir: Path):  # type: ignore[no-untyped-def]
    logs = cache_dir / "logs"

    async def make(spec: EngineSpec, report: Report) -> Engine:
        logs.mkdir(parents=True, exist_ok=True)
        log_file = logs / f"engine-{spec.name.replace('/', '_')}.log"
        log_file.unlink(missing_ok=True)
        plan = plan_engine(spec, probe())
        engine = vllm_engine.VllmEngine(spec, plan, log_file=log_file)
        report("loading the model")
        await engine.start()
        return engine

    return make


def _show_start(url: str, herd: Herd, settings: Settings, keys: Sequence[str]) -> None:
    table = Table.grid(padding=(0, 2))
    for model in herd.models():
        table.add_row(f"[bold]{model.entry.id}[/]", model.entry.description.split("\n")[0])
    key = ""
    if "auto" in settings.api_key.split(","):
        key = (
            "\n[bold]API key[/]   "
            + keys[[p.strip() for p in settings.api_key.split(",")].index("auto")]
        )
    first = herd.models()[0].entry.id
    header = " -H 'Authorization: Bearer $CORRAL_API_KEY'" if keys else ""
    curl = (
        f"curl -N {url}/v1/chat/completions -H 'Content-Type: application/json'{header} -d "
        f'\'{{"model": "{first}", "stream": true, "messages": [{{"role": "user", "content": '
        '"What is the capital of France?"}]}\''
    )
    err.print(Panel.fit(table, title=f"Corral {__version__}", subtitle=str(settings.registry)))
    err.print(f"[bold]Base URL[/]  {url}/v1{key}\n[bold]Try[/]       {curl}", soft_wrap=True)


async def _report_loads(herd: Herd, started: float) -> None:
    slots = {model.slot.name: model.slot for model in herd.models()}
    shown: dict[str, str] = {}
    while True:
        for name, slot in slots.items():
            state = slot.state
            if shown.get(name) != state.status + state.detail:
                shown[name] = state.status + state.detail
                _print_state(name, state.status, state.detail, time.monotonic() - started)
        await asyncio.sleep(0.1)


def _print_state(name: str, status: str, detail: str, seconds: float) -> None:
    if status == "ready":
        err.print(f"[green]{name} is ready[/] after {seconds:.1f} s")
    elif status == "failed":
        err.print(f"[red]{name} failed:[/] {detail}", soft_wrap=True)
    elif status == "loading":
        err.print(f"{name}: {detail} …")


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
