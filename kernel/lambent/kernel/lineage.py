"""How often each function has been called in one chain of calls, as the trace header carries it: what loops are
found by. Pure. AWS: "Use Lambda recursive loop detection to prevent infinite loops".

The header's last part is `Lineage=<8 hex of a function>:<count>|<8 hex of another>:<count>`; SDKs inside
functions pass the whole header on."""

import functools
import hashlib
import re

MOST = 16
"""AWS: the invocation after so many of one function in a chain is stopped."""
_NAME = "Lineage="
_COUNT = re.compile("[0-9]{1,9}")  # a caller may write anything, and Python refuses to read 5,000 digits


@functools.lru_cache(maxsize=4096)
def _mark(arn: str) -> str:
    return hashlib.sha256(arn.encode()).hexdigest()[:8]


def _counts(trace: str) -> dict[str, int]:
    for part in trace.split(";"):
        if part.startswith(_NAME):
            pairs = (entry.partition(":") for entry in part[len(_NAME) :].split("|"))
            return {mark: int(count) for mark, _, count in pairs if _COUNT.fullmatch(count)}
    return {}


def looped(trace: str, arn: str) -> bool:
    """Whether the function of this unqualified ARN has been called MOST times in the chain already."""
    return _NAME in trace and _counts(trace).get(_mark(arn), 0) >= MOST


def begun(trace: str) -> str:
    """The header without its counts: the chain begins anew."""
    return ";".join(part for part in trace.split(";") if not part.startswith(_NAME))


def followed(trace: str, arn: str) -> str:
    """The header for this call of the function: its count is one more."""
    mark = _mark(arn)
    if _NAME not in trace:
        return f"{trace};{_NAME}{mark}:1" if trace else f"{_NAME}{mark}:1"
    counts = _counts(trace)
    counts[mark] = counts.get(mark, 0) + 1
    # The callers' marks stay, newest last; a header is bounded.
    written = "|".join(f"{each}:{count}" for each, count in list(counts.items())[-8:])
    kept = [part for part in trace.split(";") if not part.startswith(_NAME)]
    return ";".join([*kept, _NAME + written])
