"""The X-Ray header of an invocation: what the function sees of it, and what the caller is answered.

AWS: "X-Ray tracing header"; a caller's own is passed on, else one is made that is not sampled.
"""

import random
import re
import time
from collections.abc import Callable

from lambent.kernel.tracing import context_of, new_header, under

_ROOT = re.compile(r"(?:^|;)\s*root=1-[0-9a-f]{8}-[0-9a-f]{24}\s*(?:;|$)", re.IGNORECASE)

_RATE = 0.05
_FUNCTIONS = 10_000


def trace_of(given: str | None) -> str:
    """The caller's header; a new one where there is none, or none that names a trace."""
    if given is not None and _ROOT.search(given):
        return given
    return new_header(time.time())


def answered(trace: str) -> str:
    """`root=...;sampled=0|1[;lineage=...]`, of a header of `trace_of`."""
    parts = (part.partition("=") for part in trace.split(";"))
    named = {name.strip().lower(): value.strip() for name, _, value in parts}
    text = f"root={named['root']};sampled={'1' if named.get('sampled') == '1' else '0'}"
    return f"{text};lineage={named['lineage']}" if named.get("lineage") else text


class Sampler:
    """Which requests of a function with active tracing are sampled, where their callers have not said. AWS: the
    first one in each second, and 5 % of the rest."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._now = now
        self._chance = chance
        self._seconds: dict[str, int] = {}

    def decided(self, function: str, given: str | None, trace: str) -> str:
        """`trace`, with the caller's decision, or with ours. `given`: the header that came."""
        asked = context_of(given) if given is not None else None
        context = context_of(trace)
        if context is None or (asked is not None and asked.sampled is not None):
            return trace
        second = int(self._now())
        first = self._seconds.get(function) != second
        if first:
            if len(self._seconds) >= _FUNCTIONS:
                self._seconds.clear()
            self._seconds[function] = second
        return under(trace, context._replace(sampled=first or self._chance() < _RATE))
