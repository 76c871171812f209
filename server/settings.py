"""Settings of the server's process: flags, then ``CORRAL_*`` variables, then ``.env``."""

from __future__ import annotations

import ipaddress
import secrets
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# As the value of CORRAL_API_KEY: make a key and show it once.
MAKE_A_KEY = "auto"


class Settings(BaseSettings):
    """One field a setting; the environment variable is ``CORRAL_`` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="CORRAL_", env_file=".env", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    registry: Path = Field(Path("model_registry.yaml"), description="The registry file.")
    cache_dir: Path | None = Field(None, description="Where model files are kept.")
    api_key: str = Field(
        "", description=f"Accepted keys, comma-separated; '{MAKE_A_KEY}' makes one."
    )
    allow_no_key: bool = Field(False, description="Listen beyond loopback without any key.")
    max_body_bytes: int = Field(32 << 20, ge=1024, description="Largest request body.")
    max_running: int = Field(512, ge=1, description="Requests under way at once; more get a 429.")
    load_wait_seconds: float = Field(
        600, gt=0, description="Longest a request waits for its model to load."
    )
    drain_seconds: int = Field(
        30, ge=0, description="Longest that running answers may go on after SIGTERM."
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")

    def keys(self) -> list[str]:
        """The accepted keys; a new one in place of ``auto``."""
        parts = (part.strip() for part in self.api_key.split(","))
        return [new_key() if part == MAKE_A_KEY else part for part in parts if part]

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def new_key() -> str:
    """A key nobody can guess (192 bits)."""
    return "sk-corral-" + secrets.token_urlsafe(24)
