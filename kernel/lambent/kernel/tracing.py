"""Where an invocation's time goes, as spans of OpenTelemetry: off unless LAMBENT_OTLP_ENDPOINT is set, and then
`active` is None, nothing is imported and nothing is done.

The carrier between the roles is the X-Ray header, which goes with every invocation and event as it is: its Root
is W3C's trace id (8 and 24 hex digits), its Parent the id of the span above. So a function that reads
`_X_AMZN_TRACE_ID` is in the same trace as its caller's `traceparent`.
"""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple, Protocol, TypeVar

_T = TypeVar("_T")
_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})", re.IGNORECASE)
_PARENT = re.compile(r"[0-9a-f]{16}", re.IGNORECASE)
# W3C: "Trace Context"; a later version may have more after the flags.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_OURS = ("root", "parent", "sampled")

Kind = Literal["server", "client", "producer", "internal"]
Attributes = Mapping[str, str | int | float | bool]


class Span(Protocol):
    """A span under way. `header`: the X-Ray header of what happens under it."""

    header: str

    def end(self, *, error: str | None = None, attributes: Attributes | None = None) -> None:
        """It is over now; `error`: what went wrong."""


class Tracer(Protocol):
    """Makes spans; called from the event loop only."""

    def begin(self, name: str, header: str, *, kind: Kind, attributes: Attributes, began: float | None) -> Span:
        """A span under that of an X-Ray header, or the first of its trace. `began`: seconds since the epoch,
        None: now."""

    def close(self) -> None:
        """Sends what is left, for a few seconds at most; blocks."""


active: Tracer | None = None


class Context(NamedTuple):
    """What a header says. `sampled` is None where it leaves that open."""

    trace_id: str
    parent: str | None
    sampled: bool | None


def context_of(header: str) -> Context | None:
    """None: the header names no trace."""
    named = dict(_parts(header))
    root = _ROOT.fullmatch(named.get("root", ""))
    if root is None or not int(root[1] + root[2], 16):
        return None
    parent = named.get("parent", "")
    sampled = {"0": False, "1": True}.get(named.get("sampled", ""))
    return Context((root[1] + root[2]).lower(), parent.lower() if _valid_parent(parent) else None, sampled)


def _parts(header: str) -> list[tuple[str, str]]:
    split = (part.partition("=") for part in header.split(";"))
    return [(name.strip().lower(), value.strip()) for name, _, value in split]


def _valid_parent(text: str) -> bool:
    return _PARENT.fullmatch(text) is not None and int(text, 16) != 0


def under(header: str, context: Context) -> str:
    """The header with this trace and parent; what else is in it (Lineage) stays."""
    made = [f"Root=1-{context.trace_id[:8]}-{context.trace_id[8:]}"]
    if context.parent is not None:
        made.append(f"Parent={context.parent}")
    if context.sampled is not None:
        made.append(f"Sampled={int(context.sampled)}")
    kept = [part for part in header.split(";") if part and part.partition("=")[0].strip().lower() not in _OURS]
    return ";".join([*made, *kept])


def joined(header: str | None, traceparent: str | None) -> str | None:
    """A request's X-Ray header, with the trace of its `traceparent` where it has a valid one."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent is not None else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return header
    if not int(found[2], 16) or not int(found[3], 16):
        return header
    return under(header or "", Context(found[2], found[3], bool(int(found[4], 16) & 1)))


def new_header(now: float) -> str:
    """For what nobody traces yet. AWS: not sampled; with tracing on, the first span decides."""
    noise = os.urandom(20).hex()
    root = f"Root=1-{int(now):08x}-{noise[:24]}"
    return f"{root};Parent={noise[24:40]};Sampled=0" if active is None else root


async def timed(
    name: str,
    header: str,
    work: Callable[[str], Awaitable[_T]],
    *,
    kind: Kind = "internal",
    attributes: Attributes | None = None,
) -> _T:
    """Does `work(header of what is under it)` within a span, if tracing is on."""
    if active is None:
        return await work(header)
    span = active.begin(name, header, kind=kind, attributes=attributes or {}, began=None)
    try:
        result = await work(span.header)
    except BaseException as failure:
        span.end(error=f"{type(failure).__name__}: {failure}")
        raise
    span.end()
    return result


def note(name: str, header: str, *, began: float, attributes: Attributes, error: str | None = None) -> None:
    """A span that ends now, and under which nothing was; nothing while tracing is off."""
    if active is not None:
        active.begin(name, header, kind="internal", attributes=attributes, began=began).end(error=error)
