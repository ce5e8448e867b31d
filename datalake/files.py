"""Writing files so that a reader sees the old or the new one, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def fsync(path: str | Path) -> None:
    """Make a file, or the entries of a directory, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(path: Path) -> None:
    """Make every file and directory below `path` durable."""
    for folder, _, names in os.walk(path):
        for name in names:
            fsync(os.path.join(folder, name))
        fsync(folder)


def replace_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path` durably and at once."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    fsync(path.parent)


def replace_json(path: Path, content: Any) -> None:
    """Put JSON at `path` durably and at once."""
    replace_bytes(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=True).encode())


def sha256(path: Path) -> str:
    """Hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
