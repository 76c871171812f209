"""A stand-in for clients/web: no packages, and a build that writes down what it was asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

BUILD = """\
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
const out = process.argv[process.argv.indexOf('--outDir') + 1];
const text = readFileSync('src/text.txt', 'utf8');
if (text.startsWith('wrong')) { console.error('error TS1: it is wrong'); process.exit(2); }
mkdirSync(`${out}/assets`, { recursive: true });
writeFileSync(`${out}/index.html`, text);
writeFileSync(`${out}/assets/index-x1.js`, text.repeat(1000));
writeFileSync(`${out}/assets/font-x2.woff2`, text.repeat(1000));
"""


def write_project(folder: Path, text: str = "A page. ") -> Path:
    """The stand-in, in a new folder."""
    (folder / "src").mkdir(parents=True)
    package = {"name": "page", "private": True, "scripts": {"build": "node build.mjs"}}
    lock = {"name": "page", "lockfileVersion": 3, "requires": True, "packages": {"": {}}}
    (folder / "package.json").write_text(json.dumps(package))
    (folder / "package-lock.json").write_text(json.dumps(lock))
    (folder / "build.mjs").write_text(BUILD)
    (folder / "src" / "text.txt").write_text(text)
    return folder


def has_node() -> bool:
    """Whether this machine has what builds it."""
    return bool(shutil.which("node") and shutil.which("npm"))
