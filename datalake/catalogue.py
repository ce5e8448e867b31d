"""The index of a lake: an SQLite file that can be deleted at any time.

It is rebuilt aside and put in place by `os.replace`, and opened immutable, so that readers never see half of one.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Catalogue:
    """What ``runs/*/*/*/run.json`` say, in one file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "catalogue.sqlite"
        self._memory: dict[str, dict[str, Any]] = {}

    def records(self, stage: str | None = None) -> Iterator[dict[str, Any]]:
        """All published records, oldest first; of one stage when it is named."""
        known = self._known()
        present = {path.name: path for path in self._runs()}
        fresh = {i: json.loads((p / "run.json").read_text()) for i, p in present.items() if i not in known}
        if fresh or known.keys() - present.keys():
            known = {i: r for i, r in known.items() if i in present} | fresh
            self._write(known)
        chosen = (r for r in known.values() if stage is None or r["stage"] == stage)
        yield from sorted(chosen, key=lambda r: (r["created"], r["id"]))

    def _runs(self) -> Iterator[Path]:
        base = self._root / "runs"
        for stage in _folders(base):
            for prefix in _folders(stage):
                for run in _folders(prefix):
                    if (run / "run.json").is_file():
                        yield run

    def _known(self) -> dict[str, dict[str, Any]]:
        try:
            with sqlite3.connect(f"file:{self._path}?mode=ro&immutable=1", uri=True) as db:
                rows = db.execute("SELECT id, record FROM runs").fetchall()
            db.close()
            return {i: json.loads(record) for i, record in rows}
        except (sqlite3.Error, json.JSONDecodeError):  # absent, or damaged: it is only an index
            return dict(self._memory)

    def _write(self, records: dict[str, dict[str, Any]]) -> None:
        self._memory = records
        aside = self._path.with_name(f".catalogue.{os.getpid()}.sqlite")
        try:
            aside.unlink(missing_ok=True)
            with sqlite3.connect(aside) as db:
                db.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, stage TEXT, record TEXT)")
                rows = ((i, r["stage"], json.dumps(r)) for i, r in records.items())
                db.executemany("INSERT INTO runs VALUES (?, ?, ?)", rows)
            db.close()
            os.replace(aside, self._path)
        except (OSError, sqlite3.Error):  # a lake that may only be read: the index lives in memory
            return


def _folders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [Path(e.path) for e in entries if e.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
