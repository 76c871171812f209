"""``corral serve``: settings to a listening server, and its end.

How it ends: SIGTERM and Ctrl-C stop accepting, let running answers go on for ``drain_seconds``, and
stop the engines; the exit code is 0 after SIGTERM and 130 after Ctrl-C. A second Ctrl-C ends the
answers too. When every model has failed for good the exit code is 70, so that a supervisor starts
everything anew. Whatever happens, no process that was started here stays behind. SIGHUP has the
registry read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import psutil
from rich.text import Text

from server import logs
from server.api.admin.options import AdminOptions
from server.commands.hangup import on_hangup
from server.commands.inventory import open_registry, open_store, take_stock
from server.commands.listen import PortError, listen, reachable
from server.commands.load_watch import LoadWatch
from server.commands.start_screen import StartScreen
from server.console import FetchBars, board, err
from server.engines import vllm_process
from server.engines.bookkeeping import MeasuredMemory
from server.engines.hardware import probe
from server.engines.ledger import Ledger
from server.engines.machine import VllmMachine
from server.engines.measured import FOLDER as MEASURED
from server.engines.measured import Measured
from server.engines.memory import Meter
from server.engines.pool import Pool
from server.errors import CorralError
from server.generation.herd import Herd
from server.generation.loading import EngineMaker
from server.registry.schema import Registry
from server.registry.sources import ModelStore
from server.settings import ApiKeys, Settings, forget_keys, unknown_variables
from server.web import is_built

if TYPE_CHECKING:
    import uvicorn

# Exit codes, as sysexits.h has them.
EXIT_UNAVAILABLE = 69
EXIT_SOFTWARE = 70
EXIT_CANT_CREATE = 73
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 128 + signal.SIGINT
_SERVER_LOG = "server.log"
_LOOK_EVERY_S = 1.0


class ServeError(CorralError):
    """The server cannot start.

    Args:
        message: What is wrong and what to do.
        exit_code: For the shell.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def serve(settings: Settings) -> NoReturn:
    """Run until SIGTERM or SIGINT, and leave the process.

    Args:
        settings: See `Settings`.

    Raises:
        ServeError: The port is taken, or listening there would be unsafe.
        ApiKeyError: The keys open nothing.
        RegistryError: The registry file is wrong.
    """
    started = time.monotonic()
    logs.configure(settings.log_level)
    keys, admin_keys = settings.resolve_keys(), settings.resolve_admin_keys()
    # Before any process is started: engines and their helpers need no key, and may be looked into.
    forget_keys()
    _refuse_open_door(settings, keys)
    registry = open_registry(settings)
    store = open_store(settings)
    with _listen(settings) as listener:
        port = listener.getsockname()[1]
        log_dir = _make_log_dir(store.cache_dir / "logs" / str(port))
        herd = _herd(registry, store, log_dir)
        StartScreen(
            url=f"http://{reachable(settings.host)}:{port}",
            models=take_stock(registry, store),
            keys=keys,
            admin_keys=admin_keys,
            registry=settings.registry_path,
            logs=log_dir,
            page=is_built(),
            notices=unknown_variables(),
        ).show()
        admin = AdminOptions(
            keys=admin_keys.accepted,
            local=settings.on_loopback,
            registry=settings.registry_path,
            watch=settings.watch,
            log_dir=log_dir,
        )
        _run(settings, herd, keys, admin, listener, started)


def _herd(registry: Registry, store: ModelStore, log_dir: Path) -> Herd:
    ledger = Ledger({})
    meter, measured = Meter(), Measured(store.cache_dir / MEASURED)
    machine = _machine(ledger, log_dir, measured, meter)
    pool = Pool(ledger, memory=MeasuredMemory(meter, measured))
    return Herd(registry, store, machine, FetchBars, pool)


def _run(
    settings: Settings,
    herd: Herd,
    keys: ApiKeys,
    admin: AdminOptions,
    listener: socket.socket,
    started: float,
) -> NoReturn:
    # Imported now: the helper that engines come from has been importing vLLM meanwhile.
    import uvicorn
    import uvloop

    from server.app import create_app

    server: uvicorn.Server
    app = create_app(
        herd,
        keys=keys.accepted,
        load_wait_seconds=settings.load_wait_seconds,
        max_running=settings.max_running,
        max_body_bytes=settings.max_body_bytes,
        database_url=settings.database,
        strict=settings.strict,
        admin=replace(admin, stopping=lambda: server.should_exit),
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.drain_seconds,
        server_header=False,
        # Uvicorn's own default believes every program on this machine.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
    )
    server = uvicorn.Server(config)
    uvloop.run(_until_told(server, listener, herd, admin.reload, started))


async def _until_told(
    server: uvicorn.Server,
    listener: socket.socket,
    herd: Herd,
    reload: asyncio.Event,
    started: float,
) -> NoReturn:
    """Serve, and leave once every answer and engine has ended."""
    told: list[int] = []

    def tell(number: int, _: FrameType | None) -> None:
        # Uvicorn handles signals while it serves, and sends them on to us at its end.
        told.append(number)
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    on_hangup(reload.set, lambda: tell(signal.SIGTERM, None))
    watch = LoadWatch(herd, started, lambda: server.should_exit)
    watching = asyncio.create_task(_watch(watch, server))
    hoping = asyncio.create_task(_while_there_is_hope(herd, server))
    try:
        await server.serve(sockets=[listener])
    finally:
        hopeless = hoping.done()
        for task in (watching, hoping):
            task.cancel()
        await asyncio.gather(watching, hoping, return_exceptions=True)
    if hopeless and not told:
        _leave(EXIT_SOFTWARE)
    _leave(EXIT_INTERRUPTED if signal.SIGINT in told else 0)


async def _while_there_is_hope(herd: Herd, server: uvicorn.Server) -> None:
    """Have the server end once no model can be served any more."""
    while not herd.pool.hopeless:  # noqa: ASYNC110 - many small things lead there
        await asyncio.sleep(_LOOK_EVERY_S)
    err.print("No model can be served any more:", style="red")
    for engines in herd.engines():
        err.print(Text(f"  {engines.name}: {engines.state.detail}"), soft_wrap=True)
    server.should_exit = True


def _leave(code: int) -> NoReturn:
    """End the process, and whatever is left of the processes below it.

    Not by returning: a load or a download in a thread cannot be cancelled and would hold the exit
    up, and a stopped AsyncLLM complains when the interpreter tidies up around it.
    """
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            # It cleans up shared memory after us, and then ends by itself.
            if "multiprocessing.resource_tracker" not in " ".join(process.cmdline()):
                process.kill()
    board.close()
    err.print("Stopped.")
    sys.stdout.flush()
    os._exit(code)


async def _watch(watch: LoadWatch, server: uvicorn.Server) -> None:
    await watch.run()
    seconds = server.config.timeout_graceful_shutdown
    err.print(f"Stopping: answers under way may go on for {seconds} s. Ctrl-C ends them now.")


def _refuse_open_door(settings: Settings, keys: ApiKeys) -> None:
    if keys.accepted or settings.on_loopback or settings.allow_no_key:
        return
    raise ServeError(
        f"Refusing to listen on {settings.host} without an API key: anybody who reaches this "
        "machine could use it. Set CORRAL_API_KEY (or 'auto' to have one made), or pass "
        "--allow-no-key if that is what you want.",
        EXIT_CONFIG,
    )


def _listen(settings: Settings) -> socket.socket:
    try:
        return listen(settings.host, settings.port)
    except PortError as error:
        raise ServeError(str(error), EXIT_UNAVAILABLE) from None


def _make_log_dir(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / _SERVER_LOG).open("w").close()
    except OSError as error:
        raise ServeError(
            f"{path} cannot be written: {error.strerror or error}. Point CORRAL_CACHE_DIR at a "
            "folder that can.",
            EXIT_CANT_CREATE,
        ) from None
    return path


def _machine(ledger: Ledger, log_dir: Path, measured: Measured, meter: Meter) -> EngineMaker:
    """What makes vLLM engines here.

    Raises:
        ServeError: No build of vLLM is installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ServeError(
            "No inference engine is installed. Run 'make serve' in a checkout, or install "
            "corral[cpu] or corral[gpu]; 'corral doctor' tells which.",
            EXIT_UNAVAILABLE,
        )
    # Before anything heavy: engines are forked from a process that imports vLLM while we go on.
    vllm_process.prepare(forkserver=not probe().gpus, log_file=log_dir / _SERVER_LOG)
    return VllmMachine(ledger, log_dir, measured, meter)
