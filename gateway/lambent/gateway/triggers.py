"""Adding, listing and removing S3 triggers, for `/_lambent/triggers`: the bundled S3 server has no notification
configuration of its own, so AWS's rules for one are kept here.

AWS: "PutBucketNotificationConfiguration". What would never fire is refused.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lambent.gateway.handlers.lookup import existing
from lambent.gateway.s3_events import BUCKET_NAME
from lambent.gateway.services import Services
from lambent.kernel.arn import parse_function
from lambent.kernel.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambent.kernel.models import Trigger
from lambent.kernel.s3_trigger import first_mark, mark_key

EVENTS = (
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
)
# AWS has these; the bundled S3 server does not tell of them, or not apart from others.
_UNTOLD = ("s3:ObjectCreated:Post", "s3:ObjectCreated:Copy")
_UNTOLD_KINDS = (
    "s3:ObjectRestore:",
    "s3:ReducedRedundancyLostObject",
    "s3:Replication:",
    "s3:LifecycleExpiration:",
    "s3:LifecycleTransition",
    "s3:IntelligentTiering",
    "s3:ObjectTagging:",
    "s3:ObjectAcl:Put",
    "s3:TestEvent",
)
_MEMBERS = frozenset({"bucket", "function", "events", "prefix", "suffix"})
_LONGEST_KEY = 1024


async def list_triggers(services: Services) -> list[dict[str, Any]]:
    """Every trigger, with the members of models.Trigger; the qualifier ends the function's name."""
    found = sorted(await services.store.triggers(), key=lambda trigger: (trigger.bucket, trigger.id))
    return [_shown(trigger) for trigger in found]


async def add_trigger(services: Services, asked: object) -> dict[str, Any]:
    """`asked`: {"bucket", "function" (a version or alias of it too), "events"?, "prefix"?, "suffix"?}; what was
    made, with its "id", and with "warnings" if there are some. Objects that are older than the trigger are not
    its business. Raises InvalidParameterValueException (also when no S3 server tells us of its objects),
    ResourceNotFoundException (no such function, version or alias), ResourceConflictException (it overlaps with
    another)."""
    made = _parsed(services, asked)
    await existing(services, made.function, made.qualifier)
    if services.no_triggers is not None:
        raise InvalidParameterValueException(f"The trigger would never fire: {services.no_triggers}")
    for other in await services.store.triggers():
        if overlap(made, other):
            raise ResourceConflictException(
                "Configurations overlap. Configurations on the same bucket cannot share a common event type: "
                f"trigger {other.id} (function {other.function}, events {' '.join(other.events)}, prefix "
                f"'{other.prefix}', suffix '{other.suffix}'). Remove it, or choose other prefixes or suffixes."
            )
    # First the mark: a trigger without one would begin at its first event.
    await services.store.mark_set(mark_key(made.id), first_mark(services.clock.now()))
    await services.store.put_trigger(made)
    if services.has_bucket is None or await services.has_bucket(made.bucket) is not False:
        return _shown(made)
    # AWS refuses that; here the two are made in any order, but a name that is wrong must not go unseen.
    warning = f"There is no bucket {made.bucket} yet: nothing happens until it is made (aws s3 mb s3://{made.bucket})."
    return {**_shown(made), "warnings": [warning]}


async def remove_trigger(services: Services, trigger_id: str) -> dict[str, Any]:
    """{"id": ...}. Raises ResourceNotFoundException."""
    if not trigger_id or not await services.store.delete_trigger(trigger_id):
        raise ResourceNotFoundException(
            f"There is no trigger {trigger_id or '(no id)'}. `lambent trigger list` shows them."
        )
    return {"id": trigger_id}


def overlap(one: Trigger, other: Trigger) -> bool:
    """Whether some key and event would match both (AWS refuses that)."""
    return (
        one.bucket == other.bucket
        and _either(one.prefix.startswith, other.prefix.startswith, one.prefix, other.prefix)
        and _either(one.suffix.endswith, other.suffix.endswith, one.suffix, other.suffix)
        and any(_share(mine, theirs) for mine in one.events for theirs in other.events)
    )


def _either(first: Any, second: Any, one: str, other: str) -> bool:
    return bool(first(other) or second(one))


def _share(one: str, other: str) -> bool:
    if one.endswith("*"):
        return other.startswith(one[:-1])
    return one.startswith(other[:-1]) if other.endswith("*") else one == other


def _shown(trigger: Trigger) -> dict[str, Any]:
    shown = {**asdict(trigger), "events": list(trigger.events)}
    qualifier = shown.pop("qualifier")
    return {**shown, "function": f"{trigger.function}:{qualifier}"} if qualifier else shown


def _parsed(services: Services, asked: object) -> Trigger:
    if not isinstance(asked, Mapping):
        raise InvalidParameterValueException("The body must be a JSON object.")
    unknown = sorted(set(asked) - _MEMBERS)
    if unknown:
        raise InvalidParameterValueException(
            f"Unknown members: {', '.join(map(str, unknown))}. Known: {', '.join(sorted(_MEMBERS))}."
        )
    bucket, function = _text(asked, "bucket"), _text(asked, "function")
    if not BUCKET_NAME.fullmatch(bucket):
        raise InvalidParameterValueException(
            f"The specified bucket is not valid: '{bucket}'. A bucket's name has 3 to 63 lower-case letters, "
            "digits, dots and hyphens, and begins and ends with a letter or digit."
        )
    settings = services.settings
    reference = parse_function(function, region=settings.region, account=settings.account_id)
    return Trigger(
        id=secrets.token_hex(6),
        bucket=bucket,
        function=reference.name,
        events=_events(asked.get("events", ["s3:ObjectCreated:*"])),
        prefix=_text(asked, "prefix", ""),
        suffix=_text(asked, "suffix", ""),
        qualifier=reference.qualifier,
    )


def _text(asked: Mapping[str, Any], name: str, otherwise: str | None = None) -> str:
    value = asked.get(name, otherwise)
    if not isinstance(value, str) or (otherwise is None and not value):
        raise InvalidParameterValueException(f"'{name}' must be a text.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidParameterValueException(f"'{name}' is not valid Unicode.") from None
    if size > _LONGEST_KEY:
        raise InvalidParameterValueException(f"'{name}' is longer than {_LONGEST_KEY} bytes.")
    return value


def _events(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise InvalidParameterValueException(
            "'events' must be a list of event names, as [\"s3:ObjectCreated:*\"]."
        )
    names = tuple(dict.fromkeys(_event(name) for name in value))
    for index, name in enumerate(names):
        if any(_share(name, other) for other in names[index + 1 :]):
            raise InvalidParameterValueException(f"'events' overlap: {name} and another one of the list.")
    return names


def _event(name: object) -> str:
    if name in EVENTS:
        return str(name)
    if name in _UNTOLD or (isinstance(name, str) and name.startswith(_UNTOLD_KINDS)):
        raise InvalidParameterValueException(
            f"The bundled S3 server does not tell of {name}, so the trigger would never fire. "
            f"Use one of: {', '.join(EVENTS)}."
        )
    raise InvalidParameterValueException(
        f"The event is not supported for notifications: {name}. Use one of: {', '.join(EVENTS)}."
    )
