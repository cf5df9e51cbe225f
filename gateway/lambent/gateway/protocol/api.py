"""The AWS protocol as the gateway sees it: match, parse, serialise and error, for every operation in AWS's
model, because then adding one is writing its handler and nothing else.

Everything that can be known before a request is made once, at start.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.model import OperationModel

from lambent.gateway.protocol.constraints import StructureCheck, raise_if_any
from lambent.gateway.protocol.decode import Convert, json_converter, parse_json, text_converter
from lambent.gateway.protocol.model import Operation, lower_first, operations, service_model, wire_name
from lambent.gateway.protocol.overrides import OWN_ENUM_ERRORS
from lambent.gateway.protocol.reply import Reply, Serialiser, error_reply
from lambent.gateway.protocol.routes import Match, Router
from lambent.kernel.errors import LambdaError, NotImplementedException, SerializationException

__all__ = ["LambdaProtocol", "Match", "Operation", "Reply", "not_built"]


def not_built(operation: str) -> NotImplementedException:
    """What an operation that is in the model and has no handler answers: 501, with its name."""
    return NotImplementedException(
        f"{operation} is in AWS's Lambda API and not built in Lambent yet. "
        "GET /_lambent/parity lists what is built."
    )


class LambdaProtocol:
    """AWS Lambda's REST-JSON protocol. Thread-safe: nothing changes after the constructor (about 0.2 s)."""

    def __init__(self) -> None:
        model = service_model()
        self.operations: Mapping[str, Operation] = operations()
        self._router = Router(self.operations.values())
        self._inputs = {name: _Input(model.operation_model(name)) for name in self.operations}
        self._outputs = {name: Serialiser(model.operation_model(name)) for name in self.operations}

    def match(self, method: str, path: str | bytes, query: bytes = b"") -> Match:
        """The operation of a request line; `path` and `query` raw, as on the wire.

        Raises UnknownOperationException (404); SerializationException for a query without end.
        """
        return self._router.match(method, path, query)

    def parse(self, match: Match, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> dict[str, Any]:
        """The input members by their names in the model, absent ones left out: str, int, float, bool, bytes
        (blobs), aware datetime (timestamps), list, dict. Header names in any case.

        Raises SerializationException (not JSON, wrong type), ValidationException (every violated constraint in
        one message), InvalidParameterValueException (a runtime that AWS does not know).
        """
        return self._inputs[match.operation](match, headers, body)

    def check(self, operation: str, params: Mapping[str, Any]) -> None:
        """The constraints of input members that did not come by HTTP. Raises as `parse` does."""
        self._inputs[operation].check(params)

    def serialise(self, operation: str, output: Mapping[str, Any] | None) -> Reply:
        """Output members by their names in the model -> Reply; None and absent members are left out.

        Raises ValueError for a member that the model has not (a slip in a handler).
        """
        return self._outputs[operation](output)

    def not_built(self, operation: str) -> NotImplementedException:
        """See `not_built`."""
        return not_built(operation)

    def error(self, failure: LambdaError) -> Reply:
        """An exception as AWS writes it: x-amzn-ErrorType, and a body with the message."""
        return error_reply(failure)


class _Input:
    """Everything of one operation's input, compiled: where members come from, and what they must satisfy."""

    __slots__ = (
        "_body",
        "_check",
        "_enums",
        "_headers",
        "_line_only",
        "_payload",
        "_prefixed",
        "_query",
        "_uri",
    )

    def __init__(self, operation: OperationModel) -> None:
        self._uri: list[tuple[str, str, Convert]] = []
        self._query: list[tuple[str, str, bool, Convert]] = []
        self._headers: dict[bytes, tuple[str, Convert]] = {}
        self._prefixed: list[tuple[str, bytes]] = []
        self._payload: tuple[str, Convert | None] | None = None
        self._body: list[tuple[str, str, Convert]] = []
        self._check: StructureCheck | None = None
        self._enums: list[tuple[str, tuple[str, ...], Callable[..., LambdaError]]] = []
        self._line_only = False
        shape = operation.input_shape
        if shape is None:
            return
        payload = shape.serialization.get("payload")
        for name, inner in shape.members.items():
            self._place(name, inner, payload)
            own_error = OWN_ENUM_ERRORS.get((operation.name, name))
            if own_error is not None:
                self._enums.append((name, tuple(inner.enum), own_error))
        self._check = StructureCheck(shape, operation.name)
        # Invoke and its like: beside the line and a few headers there is only a payload without constraints.
        raw = payload is not None and self._payload == (payload, None)
        free = raw and not {"min", "max", "pattern", "enum"} & shape.members[payload].metadata.keys()
        self._line_only = free and payload not in shape.required_members and not self._prefixed

    def _place(self, name: str, shape: Any, payload: str | None) -> None:
        wire = wire_name(name, shape)
        match shape.serialization.get("location"):
            case "uri":
                self._uri.append((name, wire, text_converter(shape)))
            case "querystring":
                self._query.append((name, wire, shape.type_name == "list", text_converter(shape)))
            case "header":
                self._headers[wire.lower().encode()] = (name, text_converter(shape))
            case "headers":
                self._prefixed.append((name, wire.lower().encode()))
            case _ if name == payload:
                raw = shape.type_name in ("blob", "string")
                self._payload = (name, None if raw else json_converter(shape))
            case _ if payload is None:
                self._body.append((name, wire, json_converter(shape)))

    def __call__(self, match: Match, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> dict[str, Any]:
        if not self._line_only or any(name.lower() in self._headers for name, _ in headers):
            return self._read(match, headers, body)
        if match.checked is None:
            match.checked = self._read(match, (), b"")
        params = dict(match.checked)
        if body and self._payload is not None:
            params[self._payload[0]] = body
        return params

    def _read(self, match: Match, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name, wire, convert in self._uri:
            params[name] = convert(match.uri[wire], lower_first(name))
        if match.query:
            for name, wire, many, convert in self._query:
                values = match.query.get(wire)
                if values is not None:
                    params[name] = convert(values if many else values[0], lower_first(name))
        if self._headers or self._prefixed:
            self._read_headers(headers, params)
        if self._payload is not None:
            if body:
                name, parse = self._payload
                params[name] = body if parse is None else parse(parse_json(body), lower_first(name))
        elif self._body:
            self._read_body(body, params)
        self.check(params)
        return params

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises for members that violate a constraint."""
        if self._check is not None:
            problems: list[str] = []
            self._check(params, "", problems)
            raise_if_any(problems)
        for name, known, own_error in self._enums:
            if name in params and params[name] not in known:
                raise own_error(params[name], known)

    def _read_headers(self, headers: Sequence[tuple[bytes, bytes]], params: dict[str, Any]) -> None:
        for key, value in headers:
            key = key.lower()
            wanted = self._headers.get(key)
            if wanted is not None:
                params[wanted[0]] = wanted[1](_header_text(value), lower_first(wanted[0]))
            for name, prefix in self._prefixed:
                if key.startswith(prefix):
                    found = params.setdefault(name, {})
                    found[key[len(prefix) :].decode("latin-1")] = _header_text(value)

    def _read_body(self, body: bytes, params: dict[str, Any]) -> None:
        document = parse_json(body)
        if not isinstance(document, dict):
            raise SerializationException("The request body must be a JSON object.")
        for name, wire, convert in self._body:
            raw = document.get(wire)
            if raw is not None:
                params[name] = convert(raw, lower_first(name))


def _header_text(value: bytes) -> str:
    """AWS's SDKs send UTF-8; HTTP's own old encoding is what is left."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
