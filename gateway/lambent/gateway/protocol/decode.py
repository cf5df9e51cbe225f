"""Typed values from the wire: JSON, path, query and headers, because everything behind may then trust that a
member has the type that AWS's model gives it.

A wrong type is a SerializationException and names the member; what a value may be is `constraints`' part.
A converter takes (wire value, path for messages) and returns the typed value.
"""

import binascii
import json
import math
import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.model import Shape

from lambent.gateway.protocol.model import lower_first, wire_name
from lambent.kernel.errors import SerializationException

Convert = Callable[[Any, str], Any]

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER_RANGE = {"integer": 2**31, "long": 2**63}
_JAVA_TYPE = {"integer": "an Integer", "long": "a Long", "float": "a Float", "double": "a Double"}


def parse_json(body: bytes) -> Any:
    """A request body; an empty one is `{}`. Raises SerializationException."""
    if not body:
        return {}
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        if b"\\u" in body:  # a lone surrogate would fail much later, where text is stored
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:  # UnicodeError and JSONDecodeError are ValueErrors
        raise SerializationException(f"Could not parse request body into json: {error}") from error
    return document


def json_converter(shape: Shape, active: dict[str, "_Structure"] | None = None) -> Convert:
    """The converter of a JSON value. `active`: the structures being compiled, for a shape that holds itself."""
    active = {} if active is None else active
    match shape.type_name:
        case "structure":
            return active.get(shape.name) or _Structure(shape, active)
        case "list":
            return _list(json_converter(shape.member, active))
        case "map":
            return _map(json_converter(shape.value, active))
        case "string":
            return _string
        case "integer" | "long":
            return _integer(shape.type_name)
        case "float" | "double":
            return _float(shape.type_name)
        case "boolean":
            return _boolean
        case "blob":
            return _blob
        case "timestamp":
            return _timestamp
    raise ValueError(f"no JSON form is known for the model's type {shape.type_name}")


def text_converter(shape: Shape) -> Convert:
    """The converter of a value that travels as text: path, query, header. A list takes a list of texts."""
    match shape.type_name:
        case "string":
            return _string
        case "integer" | "long":
            return _integer_text(shape.type_name)
        case "float" | "double":
            return _float_text(shape.type_name)
        case "boolean":
            return _boolean_text
        case "timestamp":
            return _timestamp
        case "list":
            inner = text_converter(shape.member)
            return lambda values, path: [inner(value, path) for value in values]
    raise ValueError(f"no text form is known for the model's type {shape.type_name}")


class _Structure:
    """Takes the members that the model names and ignores others, as AWS does; null is absence."""

    __slots__ = ("_members",)

    def __init__(self, shape: Shape, active: dict[str, "_Structure"]) -> None:
        below = {**active, shape.name: self}
        self._members: Sequence[tuple[str, str, str, Convert]] = [
            (member, wire_name(member, inner), lower_first(member), json_converter(inner, below))
            for member, inner in shape.members.items()
        ]

    def __call__(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(value, "a structure", path)
        out: dict[str, Any] = {}
        for member, wire, shown, convert in self._members:
            raw = value.get(wire)
            if raw is not None:
                out[member] = convert(raw, f"{path}.{shown}" if path else shown)
        return out


def _list(inner: Convert) -> Convert:
    def convert(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong_type(value, "a list", path)
        return [
            None if item is None else inner(item, f"{path}.{number}.member")
            for number, item in enumerate(value, 1)
        ]

    return convert


def _map(inner: Convert) -> Convert:
    def convert(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(value, "a map", path)
        return {
            key: None if item is None else inner(item, f"{path}.{key}.member") for key, item in value.items()
        }

    return convert


def _string(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    raise _wrong_type(value, "a String", path)


def _integer(type_name: str) -> Convert:
    bound = _NUMBER_RANGE[type_name]

    def convert(value: Any, path: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and -bound <= value < bound:  # `bool` is an `int` to isinstance
            return value
        raise _wrong_type(value, _JAVA_TYPE[type_name], path)

    return convert


def _integer_text(type_name: str) -> Convert:
    bounded = _integer(type_name)

    def convert(value: Any, path: str) -> Any:
        return bounded(int(value) if _WHOLE_NUMBER.fullmatch(value) else value, path)

    return convert


def _float(type_name: str) -> Convert:
    def convert(value: Any, path: str) -> float:
        if type(value) in (int, float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return number
        raise _wrong_type(value, _JAVA_TYPE[type_name], path)

    return convert


def _float_text(type_name: str) -> Convert:
    checked = _float(type_name)

    def convert(value: Any, path: str) -> Any:
        try:
            return checked(float(value), path)
        except ValueError:
            raise _wrong_type(value, _JAVA_TYPE[type_name], path) from None

    return convert


def _boolean(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong_type(value, "a Boolean", path)


def _boolean_text(value: Any, path: str) -> bool:
    match value.lower():
        case "true":
            return True
        case "false":
            return False
    raise _wrong_type(value, "a Boolean", path)


def _blob(value: Any, path: str) -> bytes:
    if not isinstance(value, str):
        raise _wrong_type(value, "a Blob", path)
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SerializationException(f"Value at '{path}' is not valid base64: {error}") from error


def _timestamp(value: Any, path: str) -> datetime:
    """Epoch seconds (JSON), ISO 8601 (query) or an HTTP date (header); always aware, in UTC."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            moment = _timestamp_text(value)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise SerializationException(f"Value at '{path}' is not a timestamp: {error}") from error
    raise _wrong_type(value, "a Timestamp", path)


def _timestamp_text(text: str) -> datetime:
    if text[:1].isalpha():
        return parsedate_to_datetime(text)
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except ValueError:
        return datetime.fromisoformat(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _wrong_type(value: Any, wanted: str, path: str) -> SerializationException:
    """AWS's words for what was found, and the member, which AWS leaves out."""
    match value:
        case True:
            found = "TRUE_VALUE"
        case False:
            found = "FALSE_VALUE"
        case str():
            found = "STRING_VALUE"
        case int() | float():
            found = "NUMBER_VALUE"
        case list():
            found = "LIST_VALUE"
        case dict():
            found = "STRUCTURE_VALUE"
        case _:
            found = "NULL_VALUE"
    where = f" (at '{path}')" if path else ""
    return SerializationException(f"{found} can not be converted to {wanted}{where}")
