"""Where usage records lie until the ledger has them: lines appended to files of this executor's own run, before
the caller gets its answer, so that a `kill -9` at any moment loses no execution.

A file is NNNNNN.jsonl in a folder named as the run's executor id; a line is `usage.to_line`. It is removed once
everything in it is in the ledger. What a full disk does not take waits in memory, and is written as soon as it
can be; beyond the bounds records are dropped, which the ledger sees by their numbers.
"""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lambent.kernel.log import Log
from lambent.kernel.usage import Minutes, UsageBatch, UsageRecord, add_to, batch_of, from_line, to_line

_log = Log(__name__)
_FILE_BYTES = 4 << 20
_MOST_WAITING = 10_000
_SUFFIX = ".jsonl"


class _Closed(NamedTuple):
    path: Path
    size: int
    last: int  # sequence of its last record


class Spool:
    """One run's records. `folder` is made and must be new; its name is the executor's id. `max_bytes`: of all
    its files. Used from one thread; nothing here raises once it is made, because an answer must not fail for
    it."""

    def __init__(self, folder: Path, *, max_bytes: int, file_bytes: int = _FILE_BYTES) -> None:
        self.executor = folder.name
        self._folder = folder
        self._max_bytes = max_bytes
        self._file_bytes = file_bytes
        self._file = -1
        self._path = folder
        self._number = 0
        self._size = 0  # of the open file
        self._written = 0  # sequence of the last record in a file
        self._closed: deque[_Closed] = deque()
        self._closed_bytes = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._sequence = 0
        self._minutes: Minutes = {}
        self._first = 1
        self._troubled = False
        folder.mkdir(parents=True, mode=0o700)

    def append(self, record: UsageRecord) -> None:
        """Keeps a record, with the next sequence."""
        self._sequence = sequence = self._sequence + 1
        add_to(self._minutes, record)
        self._waiting.append((sequence, to_line(record._replace(sequence=sequence))))
        self.flush()
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()

    def flush(self) -> None:
        """Writes what waits in memory, as far as the disk takes it now."""
        try:
            while self._waiting:
                self._write(*self._waiting[0])
                self._waiting.popleft()
            self._troubled = False
        except OSError as failure:
            if not self._troubled:  # said once, not for each record
                _log.error("Usage records wait in memory: they cannot be written.", failure=failure)
            self._troubled = True

    def _write(self, sequence: int, line: bytes) -> None:
        if self._closed_bytes + self._size + len(line) > self._max_bytes:
            raise OSError(f"the spool {self._folder} is full; the usage ledger takes nothing for too long")
        if self._file < 0 or self._size >= self._file_bytes:
            self._open_next()
        written = os.write(self._file, line)
        if written < len(line):
            os.ftruncate(self._file, self._size)
            raise OSError("the disk is full")
        self._size += written
        self._written = sequence

    def _open_next(self) -> None:
        path = self._folder / f"{self._number + 1:06}{_SUFFIX}"
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._close_file()
        self._number += 1
        self._file, self._path, self._size = opened, path, 0

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._closed.append(_Closed(self._path, self._size, self._written))
            self._closed_bytes += self._size
            self._file, self._size = -1, 0

    def take(self) -> UsageBatch | None:
        """What was appended since the last call, added up."""
        if self._first > self._sequence:
            return None
        batch = UsageBatch(self.executor, self._first, self._sequence, self._minutes)
        self._first, self._minutes = self._sequence + 1, {}
        return batch

    def shipped(self, last: int) -> None:
        """The ledger has everything up to a sequence: files that are done with go."""
        while self._waiting and self._waiting[0][0] <= last:
            self._waiting.popleft()
        while self._closed and self._closed[0].last <= last:
            self._closed[0].path.unlink(missing_ok=True)
            self._closed_bytes -= self._closed.popleft().size

    def close(self) -> None:
        """Writes what it can, says what it can't, and removes what is shipped."""
        self.flush()
        if self._waiting:
            _log.error("Usage records are lost: the disk does not take them.", count=len(self._waiting))
        self._close_file()

    def remove(self, last: int) -> None:
        """After `close`, with everything up to a sequence shipped: the folder goes if nothing else is in it."""
        self.shipped(last)
        if not self._closed:
            self._folder.rmdir()


def read_batches(folder: Path, *, after: int, most: int = 500) -> Iterator[UsageBatch]:
    """The records of a run that has ended, beyond a sequence, in batches without gaps. Blocks on the disk;
    raises OSError."""
    records: list[UsageRecord] = []
    for record in _records(folder):
        if record.sequence <= after:
            continue
        if records and (len(records) >= most or record.sequence != records[-1].sequence + 1):
            yield batch_of(records)
            records = []
        records.append(record)
    if records:
        yield batch_of(records)


def _records(folder: Path) -> Iterator[UsageRecord]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it was being written when its writer was killed: its caller got no answer
                try:
                    yield from_line(line, folder.name)
                except ValueError as problem:
                    _log.error(
                        "A usage record cannot be read; it counts as missing.", why=str(problem), file=path.name
                    )


def remove(folder: Path) -> None:
    """Removes a run that has ended, once the ledger has it all. Raises OSError."""
    for path in folder.glob(f"*{_SUFFIX}"):
        path.unlink(missing_ok=True)
    folder.rmdir()
