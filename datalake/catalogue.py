"""The index of a lake: an SQLite file that can be deleted at any time.

It is rebuilt aside and put in place by `os.replace`, and opened immutable, so that readers never see half of one. A
folder of runs whose time of change is the one that the index knows is not looked into again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from argyase.datalake.errors import CorruptRunError
from argyase.datalake.files import unsealed
from argyase.datalake.identity import KEYS, canonical

log = logging.getLogger(__name__)

_FORMAT = 3
"""Of the tables; an index of another format is made anew."""

_TABLES = """
CREATE TABLE runs (id TEXT PRIMARY KEY, stage TEXT, created TEXT, folder TEXT, parameters TEXT, scalars TEXT,
                   variables TEXT, data TEXT, crc INTEGER, rest TEXT, rest_crc INTEGER);
CREATE TABLE parameters (run TEXT, name TEXT, value);
CREATE TABLE files (sha256 TEXT, run TEXT);
CREATE TABLE folders (path TEXT PRIMARY KEY, changed TEXT);
CREATE INDEX by_value ON parameters (name, value);
CREATE INDEX by_run ON parameters (run);
CREATE INDEX by_stage ON runs (stage);
CREATE INDEX by_folder ON runs (folder);
CREATE INDEX by_file ON files (sha256);
CREATE INDEX by_owner ON files (run);
"""

_SETTLED_SECONDS = 2.0
"""A folder that changed this recently may change again within one tick of the file system's clock."""

_DATA = re.compile(r"data\.nc|traj\.zarr/.*")


class Catalogue:
    """What ``runs/*/*/*/run.json`` say, in one file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "catalogue.sqlite"
        self._memory: sqlite3.Connection | None = None

    def records(self, stage: str | None = None, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """All published records, oldest first; of one stage, and that `matches` all parameters, when they are named."""
        rows = self._select(
            "id, stage, created, parameters, scalars, variables, data, crc, rest, rest_crc", stage, parameters
        )
        for name, stage_, created, own, scalars, variables, data, crc, rest, rest_crc in rows:
            if crc != _crc(name, stage_, own, scalars, variables, data) or rest_crc != _crc(created, rest):
                return self._anew().records(stage, parameters)
        columns = zip(rows, _parsed(rows, 3), _parsed(rows, 4), _parsed(rows, 8), strict=True)
        return [
            {"id": row[0], "stage": row[1], "created": row[2], "parameters": own, "scalars": scalars, **rest}
            for row, own, scalars, rest in columns
        ]

    def numbers(
        self, stage: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[str, dict[str, Any], dict[str, Any], str, str]]:
        """Id, parameters, scalars, variables (JSON, the same text for the same variables), hash of the dataset."""
        rows = self._select("id, parameters, scalars, variables, data, stage, crc", stage, parameters)
        if any(crc != _crc(name, stage_, own, s, v, data) for name, own, s, v, data, stage_, crc in rows):
            return self._anew().numbers(stage, parameters)
        columns = zip(rows, _parsed(rows, 1), _parsed(rows, 2), strict=True)
        return [(row[0], own, scalars, row[3], row[4]) for row, own, scalars in columns]

    def owners(self, sha256: str) -> list[str]:
        """Ids of the runs that have a file of this content, besides their dataset."""
        return [run for (run,) in self._query("SELECT run FROM files WHERE sha256 = ? ORDER BY run", (sha256,))]

    def _select(self, columns: str, stage: str | None, wanted: Mapping[str, Any] | None) -> list[tuple[Any, ...]]:
        where, values = list[str](), list[Any]()
        if stage is not None:
            where.append("stage = ?")
            values.append(stage)
        for name, want in (wanted or {}).items():
            if (narrow := _narrow(want)) is not None:
                where.append(f"id IN (SELECT run FROM parameters WHERE name = ? AND {narrow[0]})")
                values += [name, *narrow[1]]
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        if not wanted:
            return self._query(f"SELECT {columns} FROM runs {condition} ORDER BY created, id", values)
        rows = self._query(f"SELECT parameters, {columns} FROM runs {condition} ORDER BY created, id", values)
        return [row[1:] for row in rows if all(matches(lookup(json.loads(row[0]), k), v) for k, v in wanted.items())]

    def _query(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        db = self._refresh(self._open())
        try:
            return db.execute(statement, values).fetchall()
        except sqlite3.Error:  # damaged in a page that nothing looked at before
            return self._anew()._query(statement, values)
        finally:
            self._close(db)

    def _anew(self) -> Catalogue:
        """This catalogue, made from the runs again: the file was damaged."""
        self._close(self._refresh(None))
        return self

    # ---- keeping up with the folders ----

    def _refresh(self, db: sqlite3.Connection | None) -> sqlite3.Connection:
        try:
            known = dict(db.execute("SELECT path, changed FROM folders")) if db else {}
            present = dict(self._folders())
            stale = [path for path, changed in present.items() if known.get(path) != changed or not changed]
            gone = [path for path in known if path not in present]
            new, removed = list[tuple[str, Path]](), list[str]()
            for path in stale:
                there = {p.name: p for p in _entries(self._root / "runs" / path) if (p / "run.json").is_file()}
                have = {i for (i,) in db.execute("SELECT id FROM runs WHERE folder = ?", (path,))} if db else set()
                new += [(path, there[i]) for i in there.keys() - have]
                removed += have - there.keys()
            settled = any(present[path] for path in stale)
            if db is not None and not (new or removed or gone or settled):
                return db
            return self._update(db, new, removed, {path: present[path] for path in stale}, gone)
        except (sqlite3.Error, TypeError, AttributeError):
            if db is None:
                raise
            self._close(db)
            return self._refresh(None)

    def _folders(self) -> Iterator[tuple[str, str]]:
        """Folders of runs, and when they changed: empty if so recently that it cannot be told from the next change."""
        now = time.time_ns()
        for stage in _entries(self._root / "runs"):
            for folder in _entries(stage):
                try:
                    status = folder.stat()
                except FileNotFoundError:
                    continue
                settled = now - status.st_mtime_ns > _SETTLED_SECONDS * 1e9
                yield f"{stage.name}/{folder.name}", f"{status.st_mtime_ns}.{status.st_nlink}" if settled else ""

    def _open(self) -> sqlite3.Connection | None:
        db = None
        try:
            db = sqlite3.connect(f"file:{self._path}?mode=ro&immutable=1", uri=True)
            if db.execute("PRAGMA user_version").fetchone() == (_FORMAT,):
                db.execute("SELECT count(*) FROM folders").fetchone()
                return db
        except sqlite3.Error:  # absent, or damaged: it is only an index
            pass
        if db is not None:
            db.close()
        return self._memory

    def _close(self, db: sqlite3.Connection) -> None:
        if db is not self._memory:
            db.close()

    def _update(
        self,
        old: sqlite3.Connection | None,
        new: list[tuple[str, Path]],
        removed: list[str],
        folders: Mapping[str, str],
        gone: list[str],
    ) -> sqlite3.Connection:
        db = sqlite3.connect(":memory:", check_same_thread=False)
        if old is not None:
            old.backup(db)
            self._close(old)
        else:
            db.executescript(f"{_TABLES} PRAGMA user_version = {_FORMAT};")
        for path in gone:
            removed += [i for (i,) in db.execute("SELECT id FROM runs WHERE folder = ?", (path,))]
        with db:
            for table, column in (("runs", "id"), ("parameters", "run"), ("files", "run")):
                db.executemany(f"DELETE FROM {table} WHERE {column} = ?", ((i,) for i in removed))
            db.executemany("DELETE FROM folders WHERE path = ?", ((path,) for path in gone))
            db.executemany("INSERT OR REPLACE INTO folders VALUES (?, ?)", folders.items())
            for folder, run in new:
                _insert(db, folder, run)
        self._write(db)
        return db

    def _write(self, db: sqlite3.Connection) -> None:
        aside = self._path.with_name(f".catalogue.{os.getpid()}.{time.time_ns()}.sqlite")
        try:
            aside.write_bytes(db.serialize())
            os.replace(aside, self._path)
        except OSError:  # a lake that may only be read, a full disk: the index lives in memory
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            self._memory = db


def _insert(db: sqlite3.Connection, folder: str, path: Path) -> None:
    try:
        record = unsealed(path / "run.json", KEYS)
        head = [record[k] for k in ("id", "stage", "created")]
        # Runs of older versions do not tell their variables: their files have to be asked.
        texts = [json.dumps(record["parameters"]), json.dumps(record["scalars"])]
        texts.append(json.dumps(record["variables"], sort_keys=True) if "variables" in record else "")
        texts.append(record["files"].get("data.nc", {}).get("sha256", ""))
        rest = json.dumps({k: record[k] for k in ("inputs", "provenance", "schema", "version", "files")})
        files = [(f["sha256"], record["id"]) for name, f in record["files"].items() if not _DATA.fullmatch(name)]
        parameters = [(record["id"], k, v) for k, v in _flat(record["parameters"])]
    except FileNotFoundError:  # removed at this moment
        return
    except (CorruptRunError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: cannot be read, left out: %r; see argyase lake verify", path / "run.json", error)
        return
    row = (*head, folder, *texts, _crc(*head[:2], *texts), rest, _crc(head[2], rest))
    db.execute(f"INSERT OR REPLACE INTO runs VALUES ({', '.join('?' * len(row))})", row)
    db.executemany("INSERT INTO parameters VALUES (?, ?, ?)", parameters)
    db.executemany("INSERT INTO files VALUES (?, ?)", files)


def _parsed(rows: Sequence[tuple[Any, ...]], column: int) -> list[dict[str, Any]]:
    """A column of JSON: one text for all rows is parsed in a third of the time of one each."""
    return list(json.loads(f"[{','.join(row[column] for row in rows)}]"))


def _crc(*texts: str) -> int:
    return zlib.crc32("\0".join(texts).encode())


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}__")
        elif isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 2**63):
            yield prefix + key, value
        elif isinstance(value, list):
            yield prefix + key, None  # is looked at, not compared, by SQL


def _narrow(want: Any) -> tuple[str, list[Any]] | None:
    """A condition of SQL that no match of `want` escapes; None where SQL cannot help. `matches` decides."""
    if isinstance(want, tuple) and len(want) == 2:
        ends = [canonical(w) for w in want]
        return ("value BETWEEN ? AND ?", ends) if all(_plain(w) for w in ends) else None
    if isinstance(want, list):
        values = [canonical(w) for w in want if not isinstance(w, tuple)]
        if len(values) != len(want) or len(values) > 500 or not all(_plain(v) for v in values):
            return None
        return f"(value IS NULL OR value IN ({', '.join('?' * len(values))}))", values
    value = canonical(want)
    return ("value = ?", [value]) if _plain(value) else None


def _plain(value: Any) -> bool:
    return isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63)


def lookup(parameters: Mapping[str, Any], key: str) -> Any:
    """The parameter of that name; ``md__timestep_fs`` looks inside a table. None if there is none."""
    if "__" not in key:
        return parameters.get(key)
    value: Any = parameters
    for part in key.split("__"):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def matches(have: Any, want: Any) -> bool:
    """Whether a parameter is what is asked for: equal, inside a (low, high), or one of a list."""
    if isinstance(want, tuple):
        low, high = (canonical(w) for w in want)
        return isinstance(have, int | float) and low <= have <= high
    if isinstance(want, list) and not isinstance(have, list):
        return any(matches(have, w) for w in want)
    return bool(have == canonical(want))


def _entries(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [Path(e.path) for e in entries if e.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
