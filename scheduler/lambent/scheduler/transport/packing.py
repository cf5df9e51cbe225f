"""kombu's message dictionaries to stream fields and back: the body stays raw bytes, and what has its default
value is not written, because every byte here is written and fsynced for each message."""

import json
from typing import Any

from kombu.utils.json import dumps as kombu_dumps
from kombu.utils.json import loads as kombu_loads

_TRANSIENT = frozenset(("delivery_tag", "body_encoding", "delivery_info"))
_DEFAULTS = {"delivery_mode": 2, "priority": 0}
MALFORMED_HEADER = "x-malformed"  # why an entry could not be read
# What foreign bytes may raise, kombu's decoders of dates, decimals and the like included.
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


def tag_of(queue: str, stream_id: str) -> str:
    """A delivery tag: valid on every channel and in every process, since the server keeps who has what."""
    return f"{queue}|{stream_id}"


def split_tag(tag: str) -> tuple[str, str]:
    """(queue, stream id)."""
    queue, _, stream_id = tag.rpartition("|")
    return queue, stream_id


def pack(message: dict[str, Any]) -> tuple[bytes, bytes]:
    """(body, meta) of a message dictionary as kombu's `prepare_message` makes it."""
    body = message.get("body") or b""
    if isinstance(body, str):
        body = body.encode()
    properties = {
        name: value
        for name, value in message["properties"].items()
        if name not in _TRANSIENT and _DEFAULTS.get(name) != value
    }
    info = message["properties"].get("delivery_info") or {}
    meta = [
        message.get("content-type"),
        message.get("content-encoding"),
        message.get("headers") or 0,
        properties or 0,
        info.get("exchange") or 0,
        info.get("routing_key") or 0,
    ]
    try:
        text = json.dumps(meta, separators=(",", ":"))
    except TypeError:  # dates and the like in headers, which kombu's own JSON can say
        text = kombu_dumps(meta)
    return bytes(body), text.encode()


def unpack(queue: str, stream_id: str, fields: list[bytes], *, redelivered: bool) -> dict[str, Any]:
    """The message dictionary of a stream entry. The first put's time (ms) is the property `first_put`.

    An entry that `pack` did not write so is a message too, with MALFORMED_HEADER and the body as it lies there
    (all fields, if there is none): somebody must be able to end it, and it must hold up no other."""
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        kind, encoding, headers, properties, exchange, routing_key = _meta(found[b"m"])
        body, first_put = found[b"b"], str(int(found[b"t"])) if b"t" in found else ""
    except _UNREADABLE as error:
        kind, encoding, properties, exchange, routing_key = "application/data", "binary", {}, "", ""
        headers = {MALFORMED_HEADER: repr(error)}
        body, first_put = found.get(b"b", repr(found).encode()), ""
    info = {
        "exchange": exchange or "",
        "routing_key": routing_key or queue,
        "redelivered": redelivered or b"r" in found,
    }
    return {
        "body": body,
        "content-type": kind,
        "content-encoding": encoding,
        "headers": headers,
        "properties": {
            **_DEFAULTS,
            **properties,
            "body_encoding": None,
            "delivery_info": info,
            "delivery_tag": tag_of(queue, stream_id),
            "first_put": first_put,
        },
    }


def _meta(data: bytes) -> tuple[Any, Any, dict[str, Any], dict[str, Any], Any, Any]:
    """What `pack` wrote beside the body. Raises one of _UNREADABLE for anything else."""
    text = data.decode()
    kind, encoding, headers, properties, exchange, routing_key = (
        kombu_loads(text) if "__type__" in text else json.loads(text)
    )
    headers, properties = headers or {}, properties or {}
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise TypeError("headers and properties must be objects")
    return kind, encoding, headers, properties, exchange, routing_key
