"""A running Corral, asked over HTTP by the commands that operate it.

Python's own client will do: httpx is not among what a server needs, and all that it would add here
are proxies and redirects, which an admin key must not follow.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from server.commands.listen import reachable
from server.errors import CorralError
from server.settings import MAKE_A_KEY, Settings, SettingsError

# A server that loads a model may take a second to answer.
_ANSWER_WITHIN_S: Final = 20.0
_BLOCK: Final = 1 << 16
_HOW: Final = "--url or CORRAL_URL names another one."


class NoServer(CorralError):
    """Nobody answers, or not as a Corral does."""

    exit_code = 69  # not available, see sysexits.h


class NotAllowed(CorralError):
    """The server does not let the caller operate it."""

    exit_code = 77  # no permission


class Refused(CorralError):
    """The server says why it does not do it.

    Args:
        message: Its words.
        status: HTTP's.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        # What the caller can mend, or what only time or somebody else can.
        self.exit_code = 65 if status in (400, 413, 415) else 1


class RunningServer:
    """The admin API of a server.

    Args:
        settings: ``url`` or ``host`` and ``port`` say where it is, ``admin_key`` opens it.

    Raises:
        SettingsError: The URL is none.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = settings.url or f"http://{reachable(settings.host)}:{settings.port}"
        parts = urlsplit(self.url)
        try:
            self._host, self._port = parts.hostname, parts.port
        except ValueError:
            self._host = None
        if parts.scheme not in ("http", "https") or not self._host:
            raise SettingsError(
                f"'{self.url}' is no address of a server: it begins with http:// or https:// and a "
                "host, as in http://127.0.0.1:8000."
            )
        self._tls = parts.scheme == "https"
        # Some paste the base URL of their client.
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        keys = [key for key in settings.given_admin_keys() if key != MAKE_A_KEY]
        self._key = keys[0] if keys else ""

    def get(self, path: str, **query: Any) -> Any:
        """What is at ``path``, decoded.

        Raises:
            NoServer, NotAllowed, Refused: See there.
        """
        return self._json("GET", path, query, None)

    def post(self, path: str, body: Any = None, *, waits: bool = False, **query: Any) -> Any:
        """The answer to a request that does something.

        Args:
            body: Sent as JSON unless it is None.
            waits: The answer may come late: what is done takes its time.

        Raises:
            NoServer, NotAllowed, Refused: See there.
        """
        return self._json("POST", path, query, body, seconds=None if waits else _ANSWER_WITHIN_S)

    def delete(self, path: str) -> Any:
        """The answer to a request that takes something away.

        Raises:
            NoServer, NotAllowed, Refused: See there.
        """
        return self._json("DELETE", path, {}, None)

    def stream(self, path: str, **query: Any) -> Iterator[bytes]:
        """What is at ``path``, as it comes.

        Raises:
            NoServer, NotAllowed, Refused: See there.
        """
        with self._answer("GET", path, query, None, None) as answer:
            while block := answer.read1(_BLOCK):
                yield block

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any,
        *,
        seconds: float | None = _ANSWER_WITHIN_S,
    ) -> Any:
        with self._answer(method, path, query, body, seconds) as answer:
            try:
                return json.loads(answer.read())
            except ValueError:
                raise self._no_corral() from None

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any,
        seconds: float | None,
    ) -> Iterator[http.client.HTTPResponse]:
        said = {name: str(value).lower() for name, value in query.items()}
        target = f"{self._prefix}{quote(path)}" + (f"?{urlencode(said)}" if said else "")
        headers = {"accept": "*/*"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["content-type"] = "application/json"
        connection = self._connection(seconds)
        try:
            connection.request(method, target, content, headers)
            answer = connection.getresponse()
            if answer.status >= 300:
                raise self._refusal(answer)
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise NoServer(
                f"No server answers at {self.url} ({_reason(error)}). Is 'corral serve' running? "
                f"{_HOW}"
            ) from error
        finally:
            connection.close()

    def _connection(self, seconds: float | None) -> http.client.HTTPConnection:
        assert self._host is not None
        if self._tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=seconds, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=seconds)

    def _refusal(self, answer: http.client.HTTPResponse) -> CorralError:
        try:
            message = json.loads(answer.read())["error"]["message"]
        except (ValueError, KeyError, TypeError):
            return self._no_corral()
        if answer.status in (401, 403):
            return NotAllowed(
                f"{message} This command takes the key from --admin-key or CORRAL_ADMIN_KEY."
            )
        return Refused(str(message), answer.status)

    def _no_corral(self) -> NoServer:
        return NoServer(f"What answers at {self.url} is no Corral that can be operated. {_HOW}")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it takes too long"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
