"""The files of the page, read once: what is not among them cannot be asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

STATIC: Final = Path(__file__).resolve().parent / "static"
INDEX: Final = "index.html"
# Names below it hold a digest of the content, so that one name is one content for ever.
ASSETS: Final = "assets/"
# Encoding → ending of the file that lies beside the plain one; the best comes first.
ENCODINGS: Final[Mapping[str, str]] = {"br": ".br", "gzip": ".gz"}
# By ending; not by what the machine's own tables say.
_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
_UNKNOWN: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Variant:
    """A file as it is sent.

    Args:
        content: The bytes, encoded.
        encoding: ``br``, ``gzip`` or "" for the file as it is.
        etag: A strong tag in quotes; other encodings of the file have others.
        media_type: Of the file as it is.
        immutable: The content under this name never changes.
        varies: There are other encodings.
    """

    content: bytes
    encoding: str
    etag: str
    media_type: str
    immutable: bool
    varies: bool


@dataclass(frozen=True, slots=True)
class Site:
    """All files, by their path below the folder; none: the page was not built."""

    _files: Mapping[str, Mapping[str, Variant]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Site:
        """The page in ``folder``; an empty one where there is no whole page."""
        if not is_built(folder):
            return cls()
        try:
            return cls({name: _variants(path, name) for name, path in _files(folder).items()})
        except OSError as error:
            log.warning("the chat page cannot be read", folder=str(folder), error=str(error))
            return cls()

    def __bool__(self) -> bool:
        return bool(self._files)

    @property
    def names(self) -> Collection[str]:
        """Paths of the files, such as ``index.html`` and ``assets/index-x1.js``."""
        return self._files.keys()

    def variant(self, name: str, accepted: Collection[str] = ()) -> Variant | None:
        """The file ``name`` in the best of the accepted encodings, or as it is; None without it."""
        variants = self._files.get(name)
        if variants is None:
            return None
        best = (code for code in ENCODINGS if code in accepted and code in variants)
        return variants[next(best, "")]


def is_built(folder: Path = STATIC) -> bool:
    """Whether a page is there."""
    return (folder / INDEX).is_file()


def _files(folder: Path) -> dict[str, Path]:
    """The files that are part of the page, without their encoded forms and hidden ones."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {
        name: path
        for name, path in found.items()
        if path.is_file()
        and not any(part.startswith(".") for part in name.split("/"))
        and not (path.suffix in ENCODINGS.values() and path.with_suffix("").is_file())
    }


def _variants(path: Path, name: str) -> dict[str, Variant]:
    """Encoding → the file in it."""
    paths = {code: path.with_name(path.name + ending) for code, ending in ENCODINGS.items()}
    contents = {"": path.read_bytes()}
    contents |= {code: at.read_bytes() for code, at in paths.items() if at.is_file()}
    tag = hashlib.sha256(contents[""]).hexdigest()[:32]
    return {
        code: Variant(
            content=content,
            encoding=code,
            etag=f'"{tag}-{code}"' if code else f'"{tag}"',
            media_type=_TYPES.get(path.suffix, _UNKNOWN),
            immutable=name.startswith(ASSETS),
            varies=len(contents) > 1,
        )
        for code, content in contents.items()
    }
