"""How the server's process logs: one plain line an event, on stderr, beside the progress bars.

Engines and vLLM log to files of their own; see ``engines.vllm_process.prepare``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from rich.text import Text

from server.console import err

# Ours speak at the level that was asked for, everybody else's when something is wrong.
_OURS = "server"


class ConsoleHandler(logging.Handler):
    """Prints through the console that draws the bars, so that neither garbles the other."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            err.print(Text(self.format(record)), soft_wrap=True)
        except Exception:  # noqa: BLE001  # logging's own rule: a failing handler breaks nothing
            self.handleError(record)


def configure(level: str) -> None:
    """Send structlog, the standard library's loggers and warnings to stderr.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = ConsoleHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(
                    colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
                ),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if level == "debug" else logging.WARNING)
    logging.getLogger(_OURS).setLevel(level.upper())
    logging.captureWarnings(not sys.warnoptions)
