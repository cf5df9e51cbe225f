"""What an operator sees and does of the event queue, for `/_lambent/queue` and all that is built on it:
depth, peek, redrive, purge, replay. No HTTP objects here, because gRPC and the console will ask for the same.

Functions are named as everywhere (name or ARN); values are plain, ready for JSON.
"""

from collections.abc import Mapping
from typing import Any

from lambent.gateway.handlers.lookup import existing
from lambent.gateway.services import Services
from lambent.kernel.arn import parse_function
from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException
from lambent.kernel.events import DeadEvent, Item, LaneDepth, Line, OutcomeRecord
from lambent.kernel.models import Event, Function

MAX_PEEK = 100
MAX_MOVED = 100_000
_SHOWN_BYTES = 2048
_PAGE = 200


async def depths(services: Services) -> dict[str, Any]:
    """{"functions": numbers of each function that has anything in the queue, "targets": those of destinations
    and dead-letter queues that take nothing now}. A lane of a deleted function has `function` None."""
    rows = await services.queue.lanes()
    names = await _names(services, {row.lane for row in rows}) if rows else {}
    return {
        "functions": [_depth(row, names.get(row.lane)) for row in rows],
        "targets": [
            {"arn": one.arn, "since": one.since, "failures": one.failures, "error": one.error}
            for one in services.failing_targets()
        ],
    }


def _depth(row: LaneDepth, name: str | None) -> dict[str, Any]:
    return {
        "function": name,
        "lane": row.lane,
        "ready": row.ready,
        "in_flight": row.in_flight,
        "delayed": row.delayed,
        "oldest_age_seconds": row.oldest_age,
        "outcomes": row.outcomes,
        "dead": row.dead,
    }


async def _names(services: Services, uids: set[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    after: str | None = None
    while rows := await services.store.page(after=after, limit=_PAGE):
        names |= {row.uid: row.name for row in rows if row.uid in uids}
        after = rows[-1].name
    return names


async def peek(services: Services, name: str, line: str, limit: int) -> dict[str, Any]:
    """{"items": the oldest of a line ("lane", "outcomes", "dead")}; nothing is taken."""
    function = await _function(services, name)
    if not 1 <= limit <= MAX_PEEK:
        raise InvalidParameterValueException(f"limit must be from 1 to {MAX_PEEK}.")
    items = await services.queue.peek(function.uid, _line(line), limit=limit)
    return {"items": [_item(services, item) for item in items]}


def _item(services: Services, item: Item) -> dict[str, Any]:
    event = item if isinstance(item, Event) else item.event
    shown: dict[str, Any] = {
        "request_id": event.request_id,
        "source": event.source,
        "accepted": event.accepted,
        "age_seconds": max(0.0, services.clock.now() - event.accepted),
        "attempt": event.attempt,
        "size": len(event.payload),
        "payload": event.payload[:_SHOWN_BYTES].decode("utf-8", "replace"),
        "due": None if isinstance(item, DeadEvent) else item.due,
    }
    if not isinstance(item, Event):
        ending = item.ending
        shown |= {
            "condition": ending.condition.value,
            "ended": ending.at,
            "attempts": ending.attempts,
            "error": (ending.response or b"")[:_SHOWN_BYTES].decode("utf-8", "replace") or ending.message,
            "target": item.target,
        }
    if isinstance(item, OutcomeRecord):
        shown |= {"dead_letter": item.dead_letter, "tries": item.tries}
    elif isinstance(item, DeadEvent):
        shown["why"] = item.why
    return shown


async def redrive(services: Services, name: str, limit: int, *, from_queue: bool) -> dict[str, Any]:
    """{"moved": how many given-up events are in the lane again, as new ones}; those that are kept here, or with
    `from_queue` the messages of the function's dead-letter queue."""
    function = await _function(services, name)
    _check_limit(limit)
    if from_queue:
        return {"moved": await services.take_dead_letters(function, limit)}
    return {"moved": await services.queue.redrive(function.uid, limit=limit)}


async def purge(services: Services, name: str, line: str) -> dict[str, Any]:
    """{"dropped": how many waited on a line and are gone for good}; what is under way goes on."""
    function = await _function(services, name)
    return {"dropped": await services.queue.purge(function.uid, _line(line))}


async def replay(services: Services, request_id: str) -> dict[str, Any]:
    """{"replayed": how many events of a request run again, now}: one that waits for a retry is not kept
    waiting, one that was given up starts anew. Raises ResourceNotFoundException for one that is not kept."""
    replayed = 0
    for row in await services.queue.lanes():
        if row.delayed:
            replayed += await services.queue.hasten(row.lane, request_id)
        if row.dead:
            replayed += await services.queue.redrive(row.lane, limit=MAX_MOVED, request_id=request_id)
    if not replayed:
        raise ResourceNotFoundException(
            f"No event with the request id {request_id} waits for a retry or was given up here. Events that "
            "are done, and those that a dead-letter queue or destination has taken, are not kept."
        )
    return {"replayed": replayed}


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_MOVED:
        raise InvalidParameterValueException(f"limit must be from 1 to {MAX_MOVED}.")


def _line(text: str) -> Line:
    try:
        return Line(text)
    except ValueError:
        known = ", ".join(line.value for line in Line)
        raise InvalidParameterValueException(f"{text} is no line of a function: {known}.") from None


async def _function(services: Services, text: str) -> Function:
    settings = services.settings
    named = parse_function(text, region=settings.region, account=settings.account_id)
    return await existing(services, named.name, named.qualifier)


def members(asked: object, known: Mapping[str, type]) -> dict[str, Any]:
    """The members of a JSON body that are known and of their type. Raises InvalidParameterValueException."""
    if not isinstance(asked, Mapping):
        raise InvalidParameterValueException("The body must be a JSON object.")
    for name, value in asked.items():
        if name not in known:
            raise InvalidParameterValueException(f"Unknown member {name}. Known: {', '.join(sorted(known))}.")
        if type(value) is not known[name]:
            raise InvalidParameterValueException(f"{name} must be of the type {known[name].__name__}.")
    return dict(asked)
