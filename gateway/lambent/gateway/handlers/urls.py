"""Function URLs. AWS: CreateFunctionUrlConfig, GetFunctionUrlConfig, UpdateFunctionUrlConfig,
DeleteFunctionUrlConfig, ListFunctionUrlConfigs. Who answers at a URL is `gateway.urls`.
"""

import re
import secrets
import string
import time
from collections.abc import Mapping
from typing import Any

from lambent.gateway.handlers import paging
from lambent.gateway.handlers.lookup import arn_of, existing, missing, reference, unqualified
from lambent.gateway.handlers.render import present
from lambent.gateway.services import Call, Services
from lambent.gateway.url_names import address_of
from lambent.kernel.arn import LATEST
from lambent.kernel.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambent.kernel.models import Cors, Function, FunctionUrl

_LETTERS = string.ascii_lowercase + string.digits
_ID = 32
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_METHODS = ("GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*")
_HEADER = re.compile(r"\*|[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CORS = {
    "AllowCredentials": "allow_credentials",
    "AllowHeaders": "allow_headers",
    "AllowMethods": "allow_methods",
    "AllowOrigins": "allow_origins",
    "ExposeHeaders": "expose_headers",
    "MaxAge": "max_age",
}


async def create_function_url_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Raises ResourceConflictException where there is one."""
    function, qualifier = await _named(services, members)
    exists = ResourceConflictException(
        "Failed to create function url config for [functionArn = "
        f"{_arn(services, function, qualifier)}]. Error message:  FunctionUrlConfig exists for this Lambda "
        "function"
    )
    if qualifier in function.urls:
        raise exists
    now = services.clock.now()
    url = FunctionUrl(
        "".join(secrets.choice(_LETTERS) for _ in range(_ID)),
        now,
        now,
        members.get("InvokeMode") or "BUFFERED",
        _cors(members.get("Cors")),
    )
    if not await _stored(services, function, qualifier, url):
        raise exists
    shown = _shown(services, call, function, qualifier, url)
    del shown["LastModifiedTime"]
    return shown


async def get_function_url_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    function, qualifier, url = await _existing(services, members)
    return _shown(services, call, function, qualifier, url)


async def update_function_url_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Members that are not given stay; a Cors replaces the one that was, an empty one clears it."""
    function, qualifier, url = await _existing(services, members)
    changed = FunctionUrl(
        url.id,
        url.created,
        services.clock.now(),
        members.get("InvokeMode") or url.invoke_mode,
        _cors(members["Cors"]) if "Cors" in members else url.cors,
    )
    if not await _stored(services, function, qualifier, changed):
        raise _changed_meanwhile()
    return _shown(services, call, function, qualifier, changed)


async def delete_function_url_config(services: Services, call: Call, members: Mapping[str, Any]) -> None:
    function, qualifier, _ = await _existing(services, members)
    if not await _stored(services, function, qualifier, None):
        raise _changed_meanwhile()


async def list_function_url_configs(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Of the function and of its aliases, at most 50 a page."""
    function = await existing(services, unqualified(services, members))
    size, after = paging.page_size(members), paging.after(members)
    keys = {_key(qualifier): qualifier for qualifier in function.urls}
    rest = sorted(key for key in keys if after is None or key > after)
    rows, marker = paging.cut(rest, size, rest)
    shown = [_shown(services, call, function, keys[row], function.urls[keys[row]]) for row in rows]
    answer: dict[str, Any] = {"FunctionUrlConfigs": shown}
    return answer if marker is None else {**answer, "NextMarker": marker}


def _key(qualifier: str) -> str:
    """What a page is ordered by: no alias is a number, and $LATEST comes first."""
    return "0" if qualifier == LATEST else qualifier


async def _named(services: Services, members: Mapping[str, Any]) -> tuple[Function, str]:
    named = reference(services, members)
    function = await existing(services, named.name)
    if named.qualifier is None:
        return function, LATEST
    if named.qualifier not in function.aliases:
        raise missing(services, named.name, named.qualifier)
    return function, named.qualifier


async def _existing(services: Services, members: Mapping[str, Any]) -> tuple[Function, str, FunctionUrl]:
    function, qualifier = await _named(services, members)
    url = function.urls.get(qualifier)
    if url is None:
        raise ResourceNotFoundException("The resource you requested does not exist.")
    return function, qualifier, url


async def _stored(services: Services, function: Function, qualifier: str, url: FunctionUrl | None) -> bool:
    """False: somebody else has changed it since `function` was read. Raises ResourceNotFoundException."""
    before = function.urls.get(qualifier)
    try:
        return await services.store.set_url(function.name, qualifier, url, before=before)
    except ResourceNotFoundException:
        raise missing(services, function.name, None if qualifier == LATEST else qualifier) from None


def _changed_meanwhile() -> ResourceConflictException:
    return ResourceConflictException(
        "The function url config was changed by another request at the same time. Try again."
    )


def _cors(given: Mapping[str, Any] | None) -> Cors | None:
    if not given:
        return None
    values: dict[str, Any] = {
        field: tuple(given[name]) if isinstance(given[name], list) else given[name]
        for name, field in _CORS.items()
        if name in given
    }
    _check(values)
    return Cors(**values)


def _check(cors: Mapping[str, Any]) -> None:
    """What could never match a request is refused, not kept. Raises InvalidParameterValueException."""
    for origin in cors.get("allow_origins") or ():
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise InvalidParameterValueException(
                f"Invalid AllowOrigins entry: {origin}. An origin is scheme://host or scheme://host:port, "
                "without a path and without wildcards, or * alone for all."
            )
    for method in cors.get("allow_methods") or ():
        if method not in _METHODS:
            raise InvalidParameterValueException(
                f"Invalid AllowMethods entry: {method}. Valid: {', '.join(_METHODS)}."
            )
    for member in ("allow_headers", "expose_headers"):
        for name in cors.get(member) or ():
            if not _HEADER.fullmatch(name):
                raise InvalidParameterValueException(f"Invalid header name in Cors: {name!r}.")


def _arn(services: Services, function: Function, qualifier: str) -> str:
    return arn_of(services, function.name, None if qualifier == LATEST else qualifier)


def _shown(
    services: Services, call: Call, function: Function, qualifier: str, url: FunctionUrl
) -> dict[str, Any]:
    cors = None
    if url.cors is not None:
        values = {name: getattr(url.cors, field) for name, field in _CORS.items()}
        cors = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }
    return present(
        {
            "FunctionUrl": address_of(url.id, services.settings, call.base_url),
            "FunctionArn": _arn(services, function, qualifier),
            "AuthType": url.auth_type,
            "Cors": cors,
            "CreationTime": _time(url.created),
            "LastModifiedTime": _time(url.modified),
            "InvokeMode": url.invoke_mode,
        }
    )


def _time(at: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"{whole}.{int(at % 1 * 1_000_000):06d}Z"
