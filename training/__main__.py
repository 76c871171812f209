"""``python -m training RECIPE.yaml``: what ``accelerate launch -m training`` starts."""

from __future__ import annotations

import sys

from rich.text import Text

from server.console import board, err
from server.errors import CorralError
from training.cli import app


def main() -> int:
    """Run the command, which ends the process itself unless it fails; errors in plain words."""
    try:
        app()
    except CorralError as error:
        for line in str(error).splitlines():
            err.print(Text.assemble(("corral: ", "red"), line), soft_wrap=True)
        return int(getattr(error, "exit_code", 1))
    finally:
        board.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
