"""Events as bytes: a schema number, a small JSON header and the payload untouched, because a payload of a
megabyte must be neither escaped nor copied into text on its way through the queue.

    byte 0      schema number; a release reads all older ones and refuses newer ones
    bytes 1-4   length of the header, big-endian
    header      JSON; members with their default value are left out
    payload     the rest
"""

import json
import struct

from lambent.kernel.models import Event

SCHEMA = 1
_PREFIX = struct.Struct(">BI")


class UnreadableEvent(ValueError):
    """The bytes are no event, or one of a newer release."""


def encode(event: Event) -> bytes:
    """An event without its lane and its due time: the queue it lies in says the one, the delay was the
    other."""
    header: dict[str, object] = {"id": event.request_id, "f": event.function, "at": event.accepted}
    if event.qualifier is not None:
        header["q"] = event.qualifier
    if event.trace_id:
        header["t"] = event.trace_id
    if event.source != "async":
        header["s"] = event.source
    if event.attempt != 1:
        header["n"] = event.attempt
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_PREFIX.pack(SCHEMA, len(text)), text, event.payload))


def decode(data: bytes, *, lane: str) -> Event:
    """The event that `encode` wrote. Raises UnreadableEvent."""
    try:
        schema, length = _PREFIX.unpack_from(data)
        if schema > SCHEMA:
            raise UnreadableEvent(f"schema {schema} is newer than this release's {SCHEMA}")
        start = _PREFIX.size
        if schema < 1 or len(data) < start + length:
            raise UnreadableEvent("not an event")
        header = json.loads(data[start : start + length])
        return Event(
            request_id=header["id"],
            lane=lane,
            function=header["f"],
            payload=bytes(data[start + length :]),
            accepted=header["at"],
            qualifier=header.get("q"),
            trace_id=header.get("t", ""),
            source=header.get("s", "async"),
            attempt=header.get("n", 1),
        )
    except (struct.error, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnreadableEvent(f"not an event: {error}") from error
