"""Preloaded first by the fork server: it ends with the server even while it still imports vLLM.

The fork server notices the server's end by a pipe that it does not read before its imports are
done, eight seconds later. ``PR_SET_PDEATHSIG`` works at once; it is the end of the *thread* that
started the fork server that counts, which is the server's main thread. Forked engines do not
inherit it: they have ``child.die_with``.
"""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
