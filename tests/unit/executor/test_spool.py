"""Usage records on disk until the ledger has them."""

import os
from pathlib import Path

import pytest

from lambent.executor import spool as spools
from lambent.executor.spool import Spool, read_batches
from lambent.kernel.models import Outcome
from lambent.kernel.usage import UsageRecord, to_line

RECORD = UsageRecord(
    *("", 0, 1_764_072_000_000, "f", "u", "$LATEST", "", "id", "sync", Outcome.SUCCESS, "x86_64"),
    *(128, 512, 0, 1500, 2, 900, 40 << 20, 2, 4, ()),
)
LINE = len(to_line(RECORD))


def make(folder: Path, *, max_bytes: int = 1 << 20, file_bytes: int = 1 << 20) -> Spool:
    return Spool(folder / "run", max_bytes=max_bytes, file_bytes=file_bytes)


def sequences(folder: Path, after: int = 0) -> list[tuple[int, int]]:
    return [(batch.first, batch.last) for batch in read_batches(folder / "run", after=after)]


def invocations(folder: Path) -> int:
    return sum(
        use.invocations
        for batch in read_batches(folder / "run", after=0)
        for rows in batch.minutes.values()
        for use in rows.values()
    )


def test_a_record_is_in_the_file_at_once(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.append(RECORD)
    spool.append(RECORD)
    assert sequences(tmp_path) == [(1, 2)]
    assert sequences(tmp_path, after=1) == [(2, 2)]
    assert sequences(tmp_path, after=2) == []
    assert invocations(tmp_path) == 2
    assert next(read_batches(tmp_path / "run", after=0)).executor == "run"
    assert os.stat(tmp_path / "run").st_mode & 0o777 == 0o700


def test_what_is_taken_is_added_up_once(tmp_path: Path) -> None:
    spool = make(tmp_path)
    assert spool.take() is None
    spool.append(RECORD)
    spool.append(RECORD)
    batch = spool.take()
    assert batch is not None and (batch.executor, batch.first, batch.last) == ("run", 1, 2)
    assert spool.take() is None
    spool.append(RECORD)
    batch = spool.take()
    assert batch is not None and (batch.first, batch.last) == (3, 3)


def test_files_end_and_go_when_they_are_shipped(tmp_path: Path) -> None:
    spool = make(tmp_path, file_bytes=2 * LINE)
    for _ in range(5):
        spool.append(RECORD)
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["000001.jsonl", "000002.jsonl", "000003.jsonl"]
    assert sequences(tmp_path) == [(1, 5)]
    spool.shipped(3)
    assert sequences(tmp_path) == [(3, 5)]
    spool.shipped(5)
    spool.close()
    spool.remove(5)
    assert not (tmp_path / "run").exists()


def test_a_line_cut_by_a_kill_is_no_record(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.append(RECORD)
    spool.close()
    with (tmp_path / "run" / "000001.jsonl").open("ab") as file:
        file.write(to_line(RECORD)[:20])
    assert sequences(tmp_path) == [(1, 1)]


def test_batches_have_no_gaps_inside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = make(tmp_path)
    for _ in range(5):
        spool.append(RECORD)
    path = tmp_path / "run" / "000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"rubbish\n", *lines[3:]]))
    assert sequences(tmp_path) == [(1, 2), (4, 5)]
    assert "cannot be read" in caplog.text


def test_batches_are_bounded(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for _ in range(5):
        spool.append(RECORD)
    found = [(batch.first, batch.last) for batch in read_batches(tmp_path / "run", after=0, most=2)]
    assert found == [(1, 2), (3, 4), (5, 5)]


def test_a_full_spool_keeps_the_rest_in_memory_and_writes_it_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, max_bytes=3 * LINE, file_bytes=LINE)
    for _ in range(5):
        spool.append(RECORD)
    assert sequences(tmp_path) == [(1, 3)]
    assert caplog.text.count("wait in memory") == 1
    batch = spool.take()
    assert batch is not None and batch.last == 5
    spool.shipped(2)
    spool.flush()
    assert sequences(tmp_path) == [(3, 5)]


def test_a_disk_that_takes_half_a_line_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path)
    spool.append(RECORD)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    spool.append(RECORD)
    monkeypatch.undo()
    spool.append(RECORD)
    assert sequences(tmp_path) == [(1, 3)]


def test_what_the_disk_never_takes_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, max_bytes=1)
    monkeypatch.setattr(spools, "_MOST_WAITING", 2)
    for _ in range(4):
        spool.append(RECORD)
    spool.close()
    assert "Usage records are lost" in caplog.text


def test_a_run_without_records_leaves_nothing(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.close()
    spool.remove(0)
    assert not (tmp_path / "run").exists()
