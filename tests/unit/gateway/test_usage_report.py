"""What is told of usage, and at what price."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lambent.gateway.prices import read_prices
from lambent.gateway.usage_report import UsageReport
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import InvalidParameterValueException, ServiceException
from lambent.kernel.models import Outcome
from lambent.kernel.store.memory_usage import MemoryUsageLedger
from lambent.kernel.usage import Usage, UsageRecord, batch_of

NOW = 1_764_072_030.0  # 2025-11-25 12:00:30 UTC
RECORD = UsageRecord(
    *("one", 1, int(NOW * 1000), "f", "u", "$LATEST", "", "id", "sync", Outcome.SUCCESS, "x86_64"),
    *(1024, 512, 0, 999_500, 1000, 900_000, 40 << 20, 2, 4, (("team", "red"),)),
)


class World:
    def __init__(self) -> None:
        self.ledger, self.clock = MemoryUsageLedger(), TestClock(NOW)
        self.reports = UsageReport(self.ledger, read_prices(None), self.clock)
        self._mark = 0

    async def used(self, **changes: Any) -> None:
        record = RECORD._replace(sequence=self._mark + 1, **changes)
        self._mark = await self.ledger.add(batch_of([record]), after=self._mark)

    async def rows(self, *asked: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.reports.report(*asked))["rows"]
        return found


async def test_a_gigabyte_second_has_awss_price() -> None:
    world = World()
    await world.used()
    [row] = await world.rows()
    assert row["function"] == "f"
    assert (row["invocations"], row["billed_ms"], row["gb_seconds"]) == (1, 1000, 1.0)
    assert row["cost_usd"] == pytest.approx(0.0000166667 + 0.0000002, rel=1e-12)
    assert (row["cpu_ms"], row["duration_ms"], row["peak_memory_bytes"]) == (900.0, 999.5, 40 << 20)


async def test_arm_is_cheaper_and_storage_costs() -> None:
    world = World()
    await world.used(architecture="arm64", ephemeral_mb=512 + 1024)
    [row] = await world.rows()
    assert row["cost_usd"] == pytest.approx(0.0000133334 + 0.0000002 + 0.0000000309, rel=1e-12)


async def test_groups() -> None:
    world = World()
    await world.used()
    await world.used(version="2", alias="live", tags=())
    await world.used(function="g", architecture="arm64", tags=(("team", "blue"),), billed_ms=2000)
    for by, expected in (
        ("function", [("f",), ("g",)]),
        ("version", [("f", "$LATEST"), ("f", "2"), ("g", "$LATEST")]),
        ("alias", [("f", ""), ("f", "live"), ("g", "")]),
        ("architecture", [("arm64",), ("x86_64",)]),
        ("tag:team", [("",), ("blue",), ("red",)]),
        ("tag:none", [("",)]),
    ):
        rows = await world.rows(by)
        assert sorted(tuple(row.values())[: len(expected[0])] for row in rows) == expected, by
        assert sum(row["invocations"] for row in rows) == 3
    report = await world.reports.report()
    assert report["rows"][0]["function"] == "f", "the dearest first"
    assert report["total"]["cost_usd"] == pytest.approx(sum(row["cost_usd"] for row in report["rows"]))


async def test_a_day_until_now_unless_asked() -> None:
    world = World()
    await world.used(at=int((NOW - 25 * 3600) * 1000))
    await world.used(at=int((NOW - 23 * 3600) * 1000))
    assert (await world.rows())[0]["invocations"] == 1
    report = await world.reports.report("function", "2d")
    assert report["rows"][0]["invocations"] == 2
    assert (report["from"], report["to"]) == ("2025-11-23T12:00:00Z", "2025-11-25T12:01:00Z")


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2025-11-25", "2025-11-25T10:00:00Z", "2025-11-25T00:00:00Z", "2025-11-25T10:00:00Z"),
        ("2025-11-25T11:00:00+01:00", "1764068400", "2025-11-25T10:00:00Z", "2025-11-25T11:00:00Z"),
        ("30m", "10m", "2025-11-25T11:30:00Z", "2025-11-25T11:51:00Z"),
    ],
)
async def test_times_have_three_forms(start: str, end: str, first: str, last: str) -> None:
    report = await World().reports.report("function", start, end)
    assert (report["from"], report["to"]) == (first, last)


@pytest.mark.parametrize(
    ("by", "start", "end", "words"),
    [
        ("memory", "", "", "by must be"),
        ("tag:", "", "", "by must be"),
        ("function", "yesterday", "", "is no time"),
        ("function", "\u00b2\u00b2", "", "is no time"),
        ("function", "9" * 30, "", "is no time"),
        ("function", "2025-11-25T10:00", "2025-11-25T09:00", "from must not be after to"),
        ("function", "1999-01-01", "", "last five years"),
        ("function", "999999d", "", "last five years"),
        ("function", "", "2099-01-01", "last five years"),
    ],
)
async def test_what_cannot_be_told_is_refused(by: str, start: str, end: str, words: str) -> None:
    with pytest.raises(InvalidParameterValueException, match=words):
        await World().reports.report(by, start, end)


def test_ones_own_prices(tmp_path: Path) -> None:
    table = {"source": "ours", "request": 0, "ephemeral_gb_second": "0", "gb_second": {"x86_64": "0.5"}}
    (tmp_path / "p.json").write_text(json.dumps(table))
    prices = read_prices(tmp_path / "p.json")
    assert prices.cost("x86_64", Usage(invocations=5, mb_ms=2 * 1024 * 1000)) == Decimal(1)
    assert prices.cost("arm64", Usage(mb_ms=1024 * 1000)) == Decimal("0.5")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"request": "x", "ephemeral_gb_second": 0, "gb_second": {"x86_64": 1}}',
        '{"request": -1, "ephemeral_gb_second": 0, "gb_second": {"x86_64": 1}}',
        '{"request": "NaN", "ephemeral_gb_second": 0, "gb_second": {"x86_64": 1}}',
        '{"request": 1, "ephemeral_gb_second": 0, "gb_second": {"arm64": 1}}',
        '{"request": 1, "ephemeral_gb_second": 0, "gb_second": 7}',
    ],
)
def test_a_table_that_cannot_be_used_says_so(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "p.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ServiceException, match="Its form:") as refused:
        read_prices(path)
    assert str(path) in refused.value.message
