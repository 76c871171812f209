"""Settings of the server's process: flags, else ``CORRAL_*`` variables, else ``.env``.

Must not know the registry's content, engines or HTTP.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import secrets
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.errors import CorralError

# As a value of CORRAL_API_KEY: make a key and show it once.
MAKE_A_KEY = "auto"
_PREFIX = "CORRAL_"
_SECRETS = (_PREFIX + "API_KEY", _PREFIX + "ADMIN_KEY")
_DATABASES = (
    "sqlite:///",
    "sqlite+aiosqlite:///",
    "postgres://",
    "postgresql://",
    "postgresql+asyncpg://",
)
_REGISTRY_NAME = "model_registry.yaml"
_PACKAGE = Path(__file__).resolve().parent


class SettingsError(CorralError):
    """Values that cannot be used; one line each, naming the flag or variable they came from."""


class ApiKeyError(CorralError):
    """Keys were given that open nothing.

    Args:
        what: What is wrong, without repeating a key.
        remedy: What to do about it.
    """

    exit_code = 78  # a wrong configuration, see sysexits.h

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} {remedy}")
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys of one run.

    Args:
        accepted: Every key that opens the door; empty lets everybody in.
        made: The one made for this run, or None.
    """

    accepted: tuple[str, ...]
    made: str | None = None


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _expanded(path: Path) -> Path:
    return path.expanduser() if str(path).startswith("~") else path


def _database_url(url: str) -> str:
    if not url.startswith(_DATABASES) or url.endswith("://"):
        raise PydanticCustomError(
            "database_url", "must begin with sqlite:/// and a path, or with postgresql://"
        )
    return url


def _networks(said: str) -> str:
    parts = [part.strip() for part in said.split(",") if part.strip()]
    for part in parts:
        try:
            ipaddress.ip_network(part)
        except ValueError:
            raise PydanticCustomError(
                "networks",
                "must be IP addresses or networks, comma-separated, not '{part}'",
                {"part": part},
            ) from None
    return ",".join(parts)


UserPath = Annotated[Path, AfterValidator(_expanded)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
Networks = Annotated[str, AfterValidator(_networks)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]


class Settings(BaseSettings):
    """One field a setting; the environment variable is ``CORRAL_`` and the name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore"
    )

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    registry: UserPath | None = Field(None, description="The registry file.")
    watch: bool = Field(True, description="Read the registry file again when it has changed.")
    cache_dir: UserPath | None = Field(None, description="Where model files are kept.")
    database_url: DatabaseUrl | None = Field(
        None, repr=False, description="Where responses, conversations and chats are kept."
    )
    api_key: str = Field(
        "", repr=False, description=f"Accepted keys, comma-separated; '{MAKE_A_KEY}' makes one."
    )
    allow_no_key: bool = Field(False, description="Listen beyond loopback without any key.")
    admin_key: str = Field(
        "",
        repr=False,
        description=f"Keys that open /admin, comma-separated; '{MAKE_A_KEY}' makes one.",
    )
    trusted_proxies: Networks = Field(
        "", description="Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."
    )
    strict: bool = Field(False, description="Refuse requests with fields that nobody knows.")
    max_body_bytes: int = Field(32 << 20, ge=1024, description="Largest request body.")
    max_running: int = Field(512, ge=1, description="Requests under way at once; more get a 429.")
    load_wait_seconds: float = Field(
        600, gt=0, description="Longest a request waits for its model to load."
    )
    drain_seconds: int = Field(
        30, ge=0, description="Longest that running answers may go on after SIGTERM or Ctrl-C."
    )
    log_level: LogLevel = Field("info", description="Least severity that is logged.")
    url: str | None = Field(None, description="Where commands find the running server.")

    @property
    def registry_path(self) -> Path:
        """The registry file: the one asked for, ``model_registry.yaml`` here, or the shipped one.

        The shipped one lies beside the code in an installed package and at the repository's root in
        a checkout; see setup.py.
        """
        if self.registry is not None:
            return self.registry
        places = (Path(_REGISTRY_NAME), _PACKAGE / _REGISTRY_NAME, _PACKAGE.parent / _REGISTRY_NAME)
        return next((path for path in places if path.is_file()), places[0])

    @property
    def database(self) -> str:
        """The database's URL: the one asked for, or a file's.

        The file lies in the cache if that was chosen, as in a container, where it is what lasts.
        Otherwise it lies among the user's data: a cache may be deleted at any time, and what people
        said may not.
        """
        if self.database_url is not None:
            return self.database_url
        data = Path(os.environ.get("XDG_DATA_HOME", ""))
        if not data.is_absolute():  # as the XDG specification has it
            data = Path.home() / ".local" / "share"
        folder = self.cache_dir or data / "corral"
        return f"sqlite+aiosqlite:///{folder.absolute()}/corral.db"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def given_keys(self) -> list[str]:
        """The API keys as they were given, ``auto`` among them.

        Raises:
            ApiKeyError: One of them no client can send, or nothing but separators was given.
        """
        return _split(self.api_key, "api_key", "API key")

    def given_admin_keys(self) -> list[str]:
        """The same of the admin keys.

        Raises:
            ApiKeyError: See `given_keys`.
        """
        return _split(self.admin_key, "admin_key", "admin key")

    def resolve_keys(self) -> ApiKeys:
        """The accepted API keys, with a new one in place of ``auto``; call once a run.

        Raises:
            ApiKeyError: See `given_keys`.
        """
        return _resolved(self.given_keys())

    def resolve_admin_keys(self) -> ApiKeys:
        """The same of the admin keys.

        Raises:
            ApiKeyError: See `given_keys`.
        """
        return _resolved(self.given_admin_keys())


def _split(text: str, setting: str, what: str) -> list[str]:
    keys = [part.strip() for part in text.split(",") if part.strip()]
    # Whoever writes something there wants a lock; leaving the door open would be wrong.
    if text and not keys:
        raise ApiKeyError(
            f"{_PREFIX}{setting.upper()} (or --{setting.replace('_', '-')}) holds no key, only "
            "commas and spaces.",
            f"Set it to a key, to '{MAKE_A_KEY}' to have one made, or to nothing.",
        )
    for number, key in enumerate(keys, 1):
        if not (key.isascii() and key.isprintable()):
            capital = what[0].upper() + what[1:]
            which = f"{capital} {number} of {len(keys)}" if len(keys) > 1 else f"The {what}"
            raise ApiKeyError(
                f"{which} has characters that an HTTP header cannot carry: only ASCII letters, "
                "digits and signs may be in it.",
                f"Choose another, or '{MAKE_A_KEY}' to have one made.",
            )
    return keys


def _resolved(keys: Sequence[str]) -> ApiKeys:
    made = new_key() if MAKE_A_KEY in keys else None
    given = [key for key in keys if key != MAKE_A_KEY]
    return ApiKeys((*([made] if made else []), *given), made)


def read_settings(**flags: Any) -> Settings:
    """Settings from flags (None: not given), environment, ``.env`` and defaults.

    Raises:
        SettingsError: A value is not what it should be.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [_explain(details, given) for details in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def forget_keys(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take the keys out of the environment, so that processes started from now on lack them."""
    # pydantic-settings reads names in any case.
    for name in [name for name in environment if name.upper() in _SECRETS]:
        del environment[name]


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """One sentence for each ``CORRAL_*`` variable that is no setting: most likely a slip."""
    known = [name.upper() for name in Settings.model_fields]
    found = []
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in known:
            close = difflib.get_close_matches(name.removeprefix(_PREFIX), known, n=1)
            hint = f" (did you mean {_PREFIX}{close[0]}?)" if close else ""
            found.append(f"{name} is set, and is no setting of Corral{hint}.")
    return found


def new_key() -> str:
    """A key nobody can guess (192 bits)."""
    return "sk-corral-" + secrets.token_urlsafe(24)


def _explain(details: ErrorDetails, flags: Mapping[str, Any]) -> str:
    name = str(details["loc"][0])
    where = f"--{name.replace('_', '-')}" if name in flags else _PREFIX + name.upper()
    context = details.get("ctx", {})
    match details["type"]:
        case "int_parsing" | "int_type" | "int_from_float":
            want = "a whole number"
        case "float_parsing" | "float_type":
            want = "a number"
        case "bool_parsing" | "bool_type":
            want = "true or false"
        case "literal_error":
            want = "one of " + str(context["expected"]).replace("'", "").replace(" or ", ", ")
        case "greater_than_equal":
            want = f"at least {context['ge']}"
        case "less_than_equal":
            want = f"at most {context['le']}"
        case "greater_than":
            want = f"more than {context['gt']:g}"
        case _:
            return f"{where}: {details['msg']}."
    return f"{where} must be {want}, not '{details['input']}'."
