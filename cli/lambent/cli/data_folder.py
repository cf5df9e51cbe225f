"""The folder of everything durable: one server at a time, readable by its owner alone, of a known schema.

It holds `lock` (flock; the holder's pid), `lambent.json` (schema number, instance id) and `secret` (32 random
bytes), beside a folder for each part. Keys for signing are derived from the secret by purpose, so that none of
them tells anything about another.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Self

from lambent.cli.client import Failed

SCHEMA = 1
_MARK = "lambent.json"
# What may lie in a folder that no server has used: settings, and what `lambent runtimes` prepared.
_BEFORE_FIRST_USE = frozenset({"lambent.toml", "lock", "runtimes"})


class DataFolder:
    """An open data folder. `instance` is a short id, the same for as long as the folder lives."""

    def __init__(self, path: Path, *, lock: int, instance: str, secret: bytes) -> None:
        self.path = path
        self.instance = instance
        self.secret = secret
        self.schema = SCHEMA
        self._lock: int | None = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Makes the folder if need be, and locks it until `close` or the process's end. Raises Failed."""
        path = path.expanduser().absolute()
        _prepare(path)
        lock = _locked(path)
        try:
            instance = _marked(path)
            return cls(path, lock=lock, instance=instance, secret=_secret(path / "secret"))
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Lets the next server in. May be called twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def folder(self, name: str) -> Path:
        """A part's own folder, 0700."""
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def key(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, the same at each start."""
        return hmac.digest(self.secret, purpose.encode(), hashlib.sha256)

    def token(self, purpose: str) -> str:
        """The same as text, for headers."""
        return self.key(purpose).hex()


def _prepare(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.stat().st_uid
        names = set(os.listdir(path))
    except OSError as failure:
        raise Failed(
            f"the data folder {path} cannot be used: {failure.strerror}. "
            "Name another one with --data-dir, or give it to this user."
        ) from failure
    if owner != os.geteuid():
        raise Failed(
            f"the data folder {path} belongs to uid {owner}, and this is uid {os.geteuid()}. "
            f"Name another one with --data-dir, or: chown -R {os.geteuid()} {path}"
        )
    if _MARK not in names and not names <= _BEFORE_FIRST_USE:
        raise Failed(
            f"{path} is not empty and is not a data folder of Lambent. "
            "Name an empty or a new one: --data-dir DIR"
        )
    # Event payloads, code and function settings lie here.
    path.chmod(0o700)


def _locked(path: Path) -> int:
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise Failed(
            f"the data folder {path} is in use by another Lambent (pid {pid}). "
            f"Stop it (kill {pid}), or give this one a folder of its own: --data-dir DIR"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _marked(path: Path) -> str:
    mark = path / _MARK
    try:
        noted = json.loads(mark.read_text())
        schema, instance = int(noted["schema"]), str(noted["instance"])
    except FileNotFoundError:
        instance = secrets.token_hex(4)
        write_durably(mark, json.dumps({"schema": SCHEMA, "instance": instance}).encode())
        return instance
    except (ValueError, KeyError, TypeError) as failure:
        raise Failed(
            f"{mark} is not readable: {failure!r}. Restore it from a backup of the data folder."
        ) from failure
    if schema > SCHEMA:
        raise Failed(
            f"the data folder {path} has schema {schema}, and this release reads up to {SCHEMA}: "
            "a newer Lambent wrote it. Start that release, or another folder: --data-dir DIR"
        )
    return instance


def _secret(path: Path) -> bytes:
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        secret = secrets.token_bytes(32)
        write_durably(path, secret)
    if len(secret) != 32:
        raise Failed(f"{path} is damaged: it must hold 32 bytes. Restore it, or delete it to get a new one.")
    return secret


def write_durably(path: Path, data: bytes) -> None:
    """Writes a small file, 0600, in one step; on disk, name and all, when it returns."""
    aside = path.with_name(path.name + ".new")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
