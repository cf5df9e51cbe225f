"""`GET /_lambent/usage`: what functions used and what AWS would have charged, as rows. `lambent usage`, the
console and gRPC show the same."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from lambent.gateway.prices import Prices, gb_seconds
from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.ports import Clock, UsageLedger
from lambent.kernel.usage import Usage, UsageKey, widened

_DAY = 86_400
_LONGEST = 5 * 366 * _DAY
_AGO = re.compile(r"([0-9]{1,6})([mhd])")
_UNITS = {"m": 60, "h": 3600, "d": _DAY}
_BY = ("function", "version", "alias", "architecture")
_UNTAGGED = ""


class UsageReport:
    """Reads the ledger and prices what is in it."""

    def __init__(self, ledger: UsageLedger, prices: Prices, clock: Clock) -> None:
        self._ledger = ledger
        self._prices = prices
        self._clock = clock

    async def report(self, by: str = "function", start: str = "", end: str = "") -> Mapping[str, Any]:
        """{"from", "to" (the time that the sums are of, ISO 8601), "by", "currency", "prices", "missing"
        (records that never came), "rows": [...], "total": {...}}. `by`: function, version, alias, architecture
        or tag:KEY; `start` and `end`: ISO 8601, seconds since the epoch, or as 30m, 12h, 7d ago; a day's until
        now. Raises InvalidParameterValueException."""
        now = self._clock.now()
        first, last = widened(*self._times(start, end, now), now=now)
        found = await self._ledger.read(first, last)
        name = _grouping(by)
        groups: dict[tuple[str, ...], _Sum] = {}
        total = _Sum()
        for key, use in found.items():
            cost = self._prices.cost(key.architecture, use)
            groups.setdefault(name(key), _Sum()).add(use, cost)
            total.add(use, cost)
        columns = _columns(by)
        rows = [
            {**dict(zip(columns, values, strict=True)), **group.shown()}
            for values, group in sorted(groups.items(), key=lambda item: (-item[1].cost, item[0]))
        ]
        return {
            "from": _iso(first),
            "to": _iso(last),
            "by": by,
            "currency": self._prices.currency,
            "prices": self._prices.source,
            "missing": await self._ledger.missing(),
            "rows": rows,
            "total": total.shown(),
        }

    def _times(self, start: str, end: str, now: float) -> tuple[float, float]:
        last = _moment(end, now) if end else now
        first = _moment(start, now) if start else last - _DAY
        if first > last:
            raise InvalidParameterValueException("from must not be after to.")
        if last - first > _LONGEST or last > now + _DAY:
            raise InvalidParameterValueException("from and to must lie in the last five years.")
        return first, last


class _Sum:
    def __init__(self) -> None:
        self.use = Usage()
        self.cost = Decimal(0)

    def add(self, use: Usage, cost: Decimal) -> None:
        self.use.add(use)
        self.cost += cost

    def shown(self) -> dict[str, Any]:
        use = self.use
        return {
            "invocations": use.invocations,
            "errors": use.errors,
            "timeouts": use.timeouts,
            "cold_starts": use.cold,
            "failed_inits": use.failed_inits,
            "billed_ms": use.billed_ms,
            "duration_ms": use.duration_us / 1000,
            "init_ms": use.init_us / 1000,
            "cpu_ms": use.cpu_us / 1000,
            "peak_memory_bytes": use.peak_memory,
            "bytes_in": use.bytes_in,
            "bytes_out": use.bytes_out,
            "gb_seconds": float(gb_seconds(use)),
            "cost_usd": float(self.cost),
        }


def _grouping(by: str) -> Callable[[UsageKey], tuple[str, ...]]:
    if by.startswith("tag:") and len(by) > 4:
        tag = by.removeprefix("tag:")
        return lambda key: (dict(key.tags).get(tag, _UNTAGGED),)
    if by == "function":
        return lambda key: (key.function,)
    if by in ("version", "alias"):
        return lambda key: (key.function, getattr(key, by))
    if by == "architecture":
        return lambda key: (key.architecture,)
    raise InvalidParameterValueException(f"by must be {', '.join(_BY)} or tag:KEY, not {by[:100]!r}.")


def _columns(by: str) -> Sequence[str]:
    if by in ("version", "alias"):
        return ("function", by)
    return (by,)


def _moment(text: str, now: float) -> float:
    """Seconds since the epoch."""
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        if text.isascii() and text.isdigit():
            moment = float(text)
        else:
            parsed = datetime.fromisoformat(text)
            moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidParameterValueException(
            f"{text[:100]!r} is no time: give ISO 8601 (2026-11-25, 2026-11-25T10:00:00Z), seconds since the "
            "epoch, or 30m, 12h, 7d for so long ago."
        ) from None
    return moment


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
