"""What lies in the queue, as bytes: a schema number, a small JSON header and the payloads untouched, because a
payload of a megabyte must be neither escaped nor copied into text on its way through the queue.

    byte 0      schema number; a release reads all older ones and refuses newer ones
    bytes 1-4   length of the header, big-endian
    header      JSON; members with their default value are left out
    rest        the event's payload, and behind it, of an outcome, the function's answer; or nothing, when the
                header's "b" names a blob with it
"""

import json
import struct
from typing import Any, NamedTuple

from lambent.kernel.events import Condition, DeadEvent, Ending, Item, Line, OutcomeRecord
from lambent.kernel.models import Event, Tried

SCHEMA = 1
_PREFIX = struct.Struct(">BI")
_UNREADABLE = (struct.error, LookupError, TypeError, ValueError, AttributeError)


class UnreadableEvent(ValueError):
    """The bytes are no event, or one of a newer release."""


def line_of(item: Item) -> Line:
    """The line that an item lies on."""
    if isinstance(item, OutcomeRecord):
        return Line.OUTCOMES
    return Line.DEAD if isinstance(item, DeadEvent) else Line.LANE


def event_of(item: Item) -> Event:
    """The event that an item is, or is about."""
    return item if isinstance(item, Event) else item.event


def encode(item: Item, *, blob: str | None = None, length: int | None = None) -> bytes:
    """An item without its lane, its line and its due time: the queue it lies in says the ones, the delay was
    the other. With a `blob` the rest is not in it: put `rest(item)` there first. `length`: of the event's
    payload, where only the blob has it."""
    header = _event(event_of(item))
    if not isinstance(item, Event):
        header["e"] = _ending(item.ending)
        header["p"] = len(item.event.payload) if length is None else length
    if isinstance(item, OutcomeRecord):
        header |= {"to": item.target, "dl": item.dead_letter, "tries": item.tries}
    elif isinstance(item, DeadEvent):
        header |= {"to": item.target, "why": item.why}
    if blob is not None:
        header["b"] = blob
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_PREFIX.pack(SCHEMA, len(text)), text, rest(item) if blob is None else b""))


def rest(item: Item) -> bytes:
    """The payloads."""
    if isinstance(item, Event):
        return item.payload
    return item.event.payload + (item.ending.response or b"")


def size(item: Item) -> int:
    """How many bytes `rest` has."""
    if isinstance(item, Event):
        return len(item.payload)
    return len(item.event.payload) + len(item.ending.response or b"")


def _event(event: Event) -> dict[str, Any]:
    header: dict[str, Any] = {"id": event.request_id, "f": event.function, "at": event.accepted}
    if event.qualifier is not None:
        header["q"] = event.qualifier
    if event.trace_id:
        header["t"] = event.trace_id
    if event.source != "async":
        header["s"] = event.source
    if event.attempt != 1:
        header["n"] = event.attempt
    if event.tried is not None:
        header["l"] = event.tried
    return header


def _ending(ending: Ending) -> dict[str, Any]:
    header: dict[str, Any] = {"c": ending.condition.value, "at": ending.at, "n": ending.attempts}
    for name, value in (
        ("st", ending.status),
        ("v", ending.executed_version),
        ("fe", ending.function_error),
        ("m", ending.message or None),
    ):
        if value is not None:
            header[name] = value
    if ending.response is not None:
        header["r"] = True
    return header


class Encoded(NamedTuple):
    """What was read, not yet decoded. `blob`: the name of the blob with the rest, if it is not `inside`."""

    header: dict[str, Any]
    inside: bytes
    blob: str | None


def read(data: bytes) -> Encoded:
    """Raises UnreadableEvent."""
    try:
        schema, length = _PREFIX.unpack_from(data)
        if schema > SCHEMA:
            raise UnreadableEvent(f"schema {schema} is newer than this release's {SCHEMA}")
        start = _PREFIX.size
        if schema < 1 or len(data) < start + length:
            raise UnreadableEvent("not an event")
        header = json.loads(data[start : start + length])
        return Encoded(header, bytes(data[start + length :]), header.get("b"))
    except UnreadableEvent:
        raise
    except _UNREADABLE as error:
        raise UnreadableEvent(f"not an event: {error}") from error


def decode(encoded: Encoded, *, lane: str, line: Line, rest: bytes | None = None) -> Item:
    """The item that `encode` wrote; `rest`: what its blob has, where there is one. Raises UnreadableEvent."""
    header, payload = encoded.header, encoded.inside if rest is None else rest
    try:
        if line is Line.LANE:
            return _decode_event(header, payload, lane)
        length, answered = header["p"], header["e"].get("r", False)
        event = _decode_event(header, payload[:length], lane)
        ending = _decode_ending(header["e"], payload[length:] if answered else None)
        if line is Line.DEAD:
            return DeadEvent(event, ending, header["to"], header["why"])
        return OutcomeRecord(event, ending, header["to"], header["dl"], header["tries"])
    except _UNREADABLE as error:
        raise UnreadableEvent(f"not an item of the line {line}: {error!r}") from error


def _decode_event(header: dict[str, Any], payload: bytes, lane: str) -> Event:
    return Event(
        request_id=header["id"],
        lane=lane,
        function=header["f"],
        payload=payload,
        accepted=header["at"],
        qualifier=header.get("q"),
        trace_id=header.get("t", ""),
        source=header.get("s", "async"),
        attempt=header.get("n", 1),
        tried=Tried(*header["l"]) if "l" in header else None,
    )


def _decode_ending(header: dict[str, Any], response: bytes | None) -> Ending:
    return Ending(
        condition=Condition(header["c"]),
        at=header["at"],
        attempts=header["n"],
        status=header.get("st"),
        executed_version=header.get("v"),
        function_error=header.get("fe"),
        response=response,
        message=header.get("m", ""),
    )
