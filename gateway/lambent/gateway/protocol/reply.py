"""Answers as the wire has them, because only this package knows where the model puts a member: in the status, a
header, the raw body or JSON.
"""

import json
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, NamedTuple

from botocore.model import OperationModel, Shape

from lambent.gateway.protocol.model import exceptions, wire_name
from lambent.gateway.protocol.overrides import NO_CONTENT, WITHOUT_TYPE
from lambent.kernel.errors import LambdaError

Encode = Callable[[Any], Any]

_JSON = (b"content-type", b"application/json")


class Reply(NamedTuple):
    """Status, headers (lower-case names, no content-length: that is the listener's) and body. 204 has neither
    body nor type."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Streamed(NamedTuple):
    """As a Reply, of a body that is still being made."""

    status: int
    headers: list[tuple[bytes, bytes]]
    chunks: AsyncGenerator[bytes]


class Serialiser:
    """One operation's output members -> Reply."""

    __slots__ = (
        "_encode",
        "_headers",
        "_members",
        "_name",
        "_payload",
        "_raw_payload",
        "_status",
        "_status_member",
    )

    def __init__(self, operation: OperationModel) -> None:
        self._name: str = operation.name
        self._status: int = 204 if operation.name in NO_CONTENT else operation.http.get("responseCode", 200)
        self._status_member: str | None = None
        self._headers: list[tuple[str, bytes, Encode]] = []
        self._encode: list[tuple[str, str, Encode]] = []
        self._payload: str | None = None
        self._raw_payload = False
        shape = operation.output_shape
        members: Mapping[str, Shape] = shape.members if shape is not None else {}
        self._members = frozenset(members)
        if shape is not None and shape.serialization.get("payload"):
            self._payload = shape.serialization["payload"]
        for name, inner in members.items():
            location = inner.serialization.get("location")
            if location == "statusCode":
                self._status_member = name
            elif location == "header":
                self._headers.append((name, wire_name(name, inner).lower().encode(), header_encoder(inner)))
            elif name == self._payload:
                # an event stream is framed by who streams it; here it is bytes already
                self._raw_payload = inner.type_name in ("blob", "string") or bool(
                    inner.serialization.get("eventstream")
                )
                self._encode.append((name, name, json_encoder(inner)))
            else:
                self._encode.append((name, wire_name(name, inner), json_encoder(inner)))

    def __call__(self, output: Mapping[str, Any] | None) -> Reply:
        """Raises ValueError for a member that the model has not: a slip in a handler, never a client's."""
        output = output or {}
        if not self._members.issuperset(output):
            unknown = sorted(self._members.symmetric_difference(output) - self._members)
            raise ValueError(f"{self._name} has no output member {', '.join(unknown)}")
        status = self._status
        if self._status_member is not None and output.get(self._status_member) is not None:
            status = int(output[self._status_member])
        headers = [
            (wire, encode(output[name])) for name, wire, encode in self._headers if output.get(name) is not None
        ]
        if status == 204:
            return Reply(status, headers, b"")
        body = self._body(output)
        if not any(name == b"content-type" for name, _ in headers):
            headers.append(_JSON)
        return Reply(status, headers, body)

    def _body(self, output: Mapping[str, Any]) -> bytes:
        if self._payload is None:
            return to_json(
                {
                    wire: encode(output[name])
                    for name, wire, encode in self._encode
                    if output.get(name) is not None
                }
            )
        payload = output.get(self._payload)
        if payload is None:
            return b""
        if self._raw_payload:
            return payload.encode() if isinstance(payload, str) else bytes(payload)
        return to_json(self._encode[0][2](payload))


def error_reply(failure: LambdaError) -> Reply:
    """An exception as AWS writes it. Members that the model binds to a header go there."""
    code = failure.code
    shape = exceptions().get(code)
    bound = shape.headers if shape is not None else {}
    headers = [(b"x-amzn-errortype", code.encode()), _JSON]
    body: dict[str, str] = {}
    for name, value in failure.members.items():
        if name in bound:
            headers.append((bound[name].lower().encode(), value.encode("latin-1", "replace")))
        else:
            body[name] = value
    if code not in WITHOUT_TYPE:
        body["Type"] = failure.fault
    body[failure.message_member] = failure.message
    return Reply(failure.status, headers, to_json(body))


def to_json(document: Any) -> bytes:
    """ASCII only, so that no text that got this far can fail to be encoded."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


def json_encoder(shape: Shape, active: Mapping[str, "_StructureEncoder"] | None = None) -> Encode:
    """A typed value -> what `json` can write."""
    active = active or {}
    match shape.type_name:
        case "structure":
            return active.get(shape.name) or _StructureEncoder(shape, active)
        case "list":
            item = json_encoder(shape.member, active)
            return lambda values: [item(value) for value in values]
        case "map":
            value_of = json_encoder(shape.value, active)
            return lambda values: {str(key): value_of(value) for key, value in values.items()}
        case "blob":
            return lambda value: b64encode(value).decode("ascii")
        case "timestamp":
            return _timestamp_encoder(shape, "unixTimestamp")
    return lambda value: value


class _StructureEncoder:
    """Members that are None are left out, as AWS does. Raises ValueError for one that the model has not."""

    __slots__ = ("_members", "_name")

    def __init__(self, shape: Shape, active: Mapping[str, "_StructureEncoder"]) -> None:
        below = {**active, shape.name: self}
        self._name: str = shape.name
        self._members: Mapping[str, tuple[str, Encode]] = {
            name: (wire_name(name, inner), json_encoder(inner, below)) for name, inner in shape.members.items()
        }

    def __call__(self, value: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, item in value.items():
            known = self._members.get(name)
            if known is None:
                raise ValueError(f"{self._name} has no output member {name}")
            if item is not None:
                out[known[0]] = known[1](item)
        return out


def header_encoder(shape: Shape) -> Callable[[Any], bytes]:
    if shape.type_name == "timestamp":
        encode = _timestamp_encoder(shape, "rfc822")
        return lambda value: str(encode(value)).encode("ascii")
    if shape.type_name == "boolean":
        return lambda value: b"true" if value else b"false"
    return lambda value: str(value).encode("latin-1", "replace")


def _timestamp_encoder(shape: Shape, default: str) -> Encode:
    """From an aware datetime or epoch seconds."""
    form: str = shape.serialization.get("timestampFormat", default)

    def encode(value: datetime | float) -> float | str:
        if form == "unixTimestamp":
            return value.timestamp() if isinstance(value, datetime) else value
        moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
        if form == "iso8601":
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return format_datetime(moment.astimezone(UTC), usegmt=True)

    return encode


__all__: Sequence[str] = ["Reply", "Serialiser", "Streamed", "error_reply", "to_json"]
