"""The written form of stored values, with a schema number in each, because keys and values outlive a release:
every release reads all older numbers and refuses newer ones.

Number 1 is described by `tests/fixtures/store/schema-1`. A change of a written value that an older release
would misread takes the next number, and `_read` then lifts the old form.
"""

import dataclasses
import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lambent.kernel.errors import InvalidParameterValueException, ServiceException
from lambent.kernel.models import (
    Alias,
    EventInvokeConfig,
    FunctionUrl,
    FunctionVersion,
    LayerVersion,
    ProvisionedConfig,
    Trigger,
)

SCHEMA = 1
LAYOUT = 2
"""The number of the store as a whole: what lies where. 2 added versions and aliases, whose code a release that
knows only 1 would collect."""

# Fields that came after schema 1: written where they are set, so that all older values keep their form.
_ADDED = ("qualifier", "file_systems", "tracing", "snap_start", "image")

_T = TypeVar("_T")
_FUNCTION_VERSION = TypeAdapter(FunctionVersion)
_LAYER_VERSION = TypeAdapter(LayerVersion)
_TRIGGER = TypeAdapter(Trigger)
_EVENT_INVOKE = TypeAdapter(EventInvokeConfig)
_ALIAS = TypeAdapter(Alias)
_PROVISIONED = TypeAdapter(ProvisionedConfig)
_URL = TypeAdapter(FunctionUrl)

Stored = FunctionVersion | LayerVersion | Trigger | EventInvokeConfig | Alias | ProvisionedConfig | FunctionUrl


def encode(value: Stored) -> bytes:
    """JSON with its schema number. Raises InvalidParameterValueException for text that UTF-8 cannot say."""
    fields = dataclasses.asdict(value)
    written = {name: part for name, part in fields.items() if part is not None or name not in _ADDED}
    return utf8(json.dumps({"schema": SCHEMA, **written}, ensure_ascii=False))


def utf8(value: str) -> bytes:
    """Raises InvalidParameterValueException for half a surrogate pair: it could be written and never read."""
    try:
        return value.encode()
    except UnicodeEncodeError as failure:
        raise InvalidParameterValueException(
            "A text in the request is not valid Unicode: it has half of a surrogate pair."
        ) from failure


def function_version(data: bytes) -> FunctionVersion:
    return _read(_FUNCTION_VERSION, data, {})


def published(data: bytes, version: int) -> FunctionVersion:
    """The number is its field's name, as of a layer version."""
    return _read(_FUNCTION_VERSION, data, {"version": str(version)})


def layer_version(data: bytes, version: int) -> LayerVersion:
    """The number is its field's name: it is given by the step that stores it."""
    return _read(_LAYER_VERSION, data, {"version": version})


def trigger(data: bytes) -> Trigger:
    return _read(_TRIGGER, data, {})


def event_invoke(data: bytes) -> EventInvokeConfig:
    return _read(_EVENT_INVOKE, data, {})


def provisioned(data: bytes) -> ProvisionedConfig:
    return _read(_PROVISIONED, data, {})


def url(data: bytes) -> FunctionUrl:
    return _read(_URL, data, {})


def alias(data: bytes) -> Alias:
    return _read(_ALIAS, data, {})


def refuse_newer(number: object, what: str, *, newest: int = SCHEMA) -> None:
    """Raises ServiceException if a schema number is not one that this release reads."""
    if not isinstance(number, int) or not 1 <= number <= newest:
        raise ServiceException(
            f"{what} has the schema number {number!r}, and this release reads up to {newest}: it was written "
            "by a newer Lambent. Start that release, or restore a backup that is older than the upgrade."
        )


def _read(adapter: TypeAdapter[_T], data: bytes, more: dict[str, Any]) -> _T:
    try:
        document = json.loads(data)
    except ValueError as failure:
        raise ServiceException(f"A stored value is not JSON: {data[:100]!r}.") from failure
    if not isinstance(document, dict):
        raise ServiceException(f"A stored value is not a JSON object: {data[:100]!r}.")
    refuse_newer(document.pop("schema", None), "A stored value")
    try:
        return adapter.validate_python(document | more)
    except ValidationError as failure:
        raise ServiceException(f"A stored value is damaged: {failure}") from failure
