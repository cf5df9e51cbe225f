"""The operations of CloudWatch Logs that Lambent answers: functions' logs are read with the tools that people
have, and functions write with boto3. What is kept is bounded (`kernel/store/logs.py`).

A handler takes (logs, input) and gives the output. A member that it would not act on is refused, never ignored.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lambent.gateway.cloudwatch.errors import (
    InvalidParameterException,
    ResourceAlreadyExistsException,
    no_group,
    no_stream,
)
from lambent.gateway.cloudwatch.filters import compile_filter
from lambent.kernel.models import LogGroupInfo, LogLine, LogStreamInfo
from lambent.kernel.ports import Clock, LogStore

DAYS = frozenset(
    (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
)
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000
_FAR = 1 << 62
_MOST_EVENTS, _EVENT_OVERHEAD, _MOST_BYTES = 10_000, 26, 1_048_576
_MOST_EVENT_BYTES = 256 * 1024
_PAGE_EVENTS, _PAGE_BYTES = 10_000, 1_048_576


@dataclass(frozen=True, slots=True)
class Logs:
    """What handlers work with."""

    store: LogStore
    clock: Clock
    region: str
    account: str

    def now(self) -> int:
        return int(self.clock.now() * 1000)

    def arn(self, group: str) -> str:
        return f"arn:aws:logs:{self.region}:{self.account}:log-group:{group}"


Params = Mapping[str, Any]
Output = Mapping[str, Any] | None
Handler = Callable[[Logs, Params], Awaitable[Output]]


def _named(params: Params) -> str:
    """The group, by `logGroupName` or `logGroupIdentifier` (a name or an ARN), of which AWS takes one."""
    name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
    if name and identifier:
        raise InvalidParameterException(
            "LogGroup name and LogGroup Identifier are mutually exclusive parameters."
        )
    if identifier and identifier.startswith("arn:"):
        identifier = identifier.partition(":log-group:")[2].removesuffix(":*")
    found: str | None = name or identifier
    if not found:
        raise InvalidParameterException("Either logGroupName or logGroupIdentifier must be specified.")
    return found


async def _existing(logs: Logs, params: Params) -> LogGroupInfo:
    group = await logs.store.group(_named(params))
    if group is None:
        raise no_group()
    return group


# ---- groups ---------------------------------------------------------------------------------------------


async def create_log_group(logs: Logs, params: Params) -> Output:
    if not await logs.store.create_group(params["logGroupName"]):
        raise ResourceAlreadyExistsException("The specified log group already exists")
    return None


async def delete_log_group(logs: Logs, params: Params) -> Output:
    if not await logs.store.delete(params["logGroupName"]):
        raise no_group()
    return None


async def describe_log_groups(logs: Logs, params: Params) -> Output:
    prefix, pattern = params.get("logGroupNamePrefix"), params.get("logGroupNamePattern")
    if prefix and pattern:
        raise InvalidParameterException(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
        )
    await logs.store.flush()
    groups = [
        group
        for group in await logs.store.groups()
        if (not prefix or group.name.startswith(prefix))
        and (not pattern or pattern.lower() in group.name.lower())
    ]
    page, token = _page(groups, params, key=lambda group: group.name)
    return {"logGroups": [_group(logs, group) for group in page], "nextToken": token}


def _group(logs: Logs, group: LogGroupInfo) -> dict[str, Any]:
    arn = logs.arn(group.name)
    return {
        "logGroupName": group.name,
        "creationTime": group.created,
        "retentionInDays": group.retention,
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "logGroupArn": arn,
        "logGroupClass": "STANDARD",
    }


async def put_retention_policy(logs: Logs, params: Params) -> Output:
    days = params["retentionInDays"]
    if days not in DAYS:
        raise InvalidParameterException(
            f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(str(day) for day in sorted(DAYS))}]"
        )
    if not await logs.store.set_retention(params["logGroupName"], days):
        raise no_group()
    return None


async def delete_retention_policy(logs: Logs, params: Params) -> Output:
    if not await logs.store.set_retention(params["logGroupName"], None):
        raise no_group()
    return None


# ---- log streams ----------------------------------------------------------------------------------------


async def create_log_stream(logs: Logs, params: Params) -> Output:
    made = await logs.store.create_stream(params["logGroupName"], params["logStreamName"])
    if made is None:
        raise no_group()
    if not made:
        raise ResourceAlreadyExistsException("The specified log stream already exists")
    return None


async def delete_log_stream(logs: Logs, params: Params) -> Output:
    await logs.store.flush()
    gone = await logs.store.delete_stream(params["logGroupName"], params["logStreamName"])
    if gone is None:
        raise no_group()
    if not gone:
        raise no_stream()
    return None


async def describe_log_streams(logs: Logs, params: Params) -> Output:
    group, prefix = _named(params), params.get("logStreamNamePrefix")
    by_time = params.get("orderBy", "LogStreamName") == "LastEventTime"
    if by_time and prefix:
        raise InvalidParameterException("Cannot order by LastEventTime with a logStreamNamePrefix.")
    await logs.store.flush()
    found = await logs.store.streams(group)
    if found is None:
        raise no_group()
    streams = [stream for stream in found if not prefix or stream.name.startswith(prefix)]
    if by_time:
        streams.sort(key=lambda stream: (stream.last or 0, stream.name))
    if params.get("descending"):
        streams.reverse()
    page, token = _page(streams, params, key=lambda stream: stream.name, ordered=False)
    return {"logStreams": [_stream(logs, group, stream) for stream in page], "nextToken": token}


def _stream(logs: Logs, group: str, stream: LogStreamInfo) -> dict[str, Any]:
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "firstEventTimestamp": stream.first,
        "lastEventTimestamp": stream.last,
        "lastIngestionTime": stream.ingested,
        "arn": f"{logs.arn(group)}:log-stream:{stream.name}",
        "storedBytes": 0,
    }


def _page(
    rows: Sequence[Any], params: Params, *, key: Callable[[Any], str], ordered: bool = True
) -> tuple[Sequence[Any], str | None]:
    """At most `limit` (50) rows behind the one that `nextToken` names."""
    limit = params.get("limit") or 50
    after = _read_token(params.get("nextToken"), str)
    start = 0
    if after is not None:
        names = [key(row) for row in rows]
        if ordered:
            start = sum(name <= after for name in names)
        else:
            start = names.index(after) + 1 if after in names else len(rows)
    page = rows[start : start + limit]
    more = start + limit < len(rows)
    return page, _token(key(page[-1])) if more else None


# ---- events ---------------------------------------------------------------------------------------------


async def put_log_events(logs: Logs, params: Params) -> Output:
    group, stream, events = params["logGroupName"], params["logStreamName"], params["logEvents"]
    found = await _existing(logs, params)
    known = await logs.store.streams(group)
    if known is None:
        raise no_group()
    if not any(each.name == stream for each in known):
        raise no_stream()
    _check_batch(events)
    now = logs.now()
    too_old = sum(event["timestamp"] < now - 14 * _DAY_MS for event in events)
    expired = 0
    if found.retention is not None:
        expired = sum(event["timestamp"] < now - found.retention * _DAY_MS for event in events)
    in_time = sum(event["timestamp"] <= now + 2 * _HOUR_MS for event in events)
    taken = events[max(too_old, expired) : in_time]
    logs.store.append(group, stream, [(event["timestamp"], event["message"]) for event in taken])
    rejected = {
        "tooOldLogEventEndIndex": too_old or None,
        "expiredLogEventEndIndex": expired or None,
        "tooNewLogEventStartIndex": in_time if in_time < len(events) else None,
    }
    output: dict[str, Any] = {"nextSequenceToken": "0" * 56}
    if any(value is not None for value in rejected.values()):
        output["rejectedLogEventsInfo"] = rejected
    return output


def _check_batch(events: Sequence[Mapping[str, Any]]) -> None:
    times = [event["timestamp"] for event in events]
    if any(later < earlier for earlier, later in zip(times, times[1:], strict=False)):
        raise InvalidParameterException(
            "Log events in a single PutLogEvents request must be in chronological order."
        )
    if times and times[-1] - times[0] > _DAY_MS:
        raise InvalidParameterException(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
        )
    sizes = [len(event["message"].encode()) for event in events]
    if sum(sizes) + _EVENT_OVERHEAD * len(sizes) > _MOST_BYTES:
        raise InvalidParameterException(f"Upload too large: more than {_MOST_BYTES} bytes")
    if any(size > _MOST_EVENT_BYTES for size in sizes):
        raise InvalidParameterException(
            f"Log event too large: {max(sizes)} bytes exceeds limit of {_MOST_EVENT_BYTES}"
        )


async def get_log_events(logs: Logs, params: Params) -> Output:
    """AWS: the newest page first unless startFromHead; a token that leads no further is given back as it
    came."""
    await logs.store.flush()
    group, stream = await _existing(logs, params), params["logStreamName"]
    known = await logs.store.streams(group.name)
    if known is None or not any(each.name == stream for each in known):
        raise no_stream()
    lines = [line for line in await _scanned(logs, group.name, params) if line.stream == stream]
    limit, token = params.get("limit") or _PAGE_EVENTS, params.get("nextToken")
    if token is not None:
        way, place = token[:2], _read_token(token[2:], list)
        at = sum(_place(line) <= place for line in lines) if way == "f/" else None
        before = sum(_place(line) < place for line in lines) if way == "b/" else None
        if at is None and before is None:
            raise InvalidParameterException("The specified nextToken is invalid.")
    elif params.get("startFromHead"):
        at, before = 0, None
    else:
        at, before = None, len(lines)
    if at is not None:
        page = _bounded(lines[at:], limit)
    else:
        page = list(reversed(_bounded(list(reversed(lines[:before])), limit)))
    first = _token(_place(page[0])) if page else (token or "b/")[2:] or _token([0, 0, 0])
    last = _token(_place(page[-1])) if page else (token or "f/")[2:] or _token([0, 0, 0])
    return {
        "events": [
            {"timestamp": line.at, "message": line.message, "ingestionTime": _ingested(line)} for line in page
        ],
        "nextForwardToken": f"f/{last}",
        "nextBackwardToken": f"b/{first}",
    }


async def filter_log_events(logs: Logs, params: Params) -> Output:
    names, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix")
    if names and prefix:
        raise InvalidParameterException(
            "logStreamNamePrefix and logStreamNames are mutually exclusive parameters."
        )
    test = compile_filter(params.get("filterPattern") or "")
    await logs.store.flush()
    group = await _existing(logs, params)
    after = _read_token(params.get("nextToken"), list)
    wanted = None if not names else frozenset(names)
    lines = [
        line
        for line in await _scanned(logs, group.name, params)
        if (wanted is None or line.stream in wanted)
        and (not prefix or line.stream.startswith(prefix))
        and (after is None or _place(line) > after)
        and test(line.message)
    ]
    page = _bounded(lines, params.get("limit") or _PAGE_EVENTS)
    return {
        "events": [
            {
                "logStreamName": line.stream,
                "timestamp": line.at,
                "message": line.message,
                "ingestionTime": _ingested(line),
                "eventId": _event_id(line),
            }
            for line in page
        ],
        "searchedLogStreams": [],
        "nextToken": _token(_place(page[-1])) if len(page) < len(lines) else None,
    }


async def _scanned(logs: Logs, group: str, params: Params) -> list[LogLine]:
    """By time, and lines of one time as they came. AWS: startTime is in, endTime is out."""
    since, until = params.get("startTime") or 0, params.get("endTime")
    lines = await logs.store.scan(group, since=since, until=_FAR if until is None else until)
    return sorted(lines, key=_place)


def _bounded(lines: Iterable[LogLine], limit: int) -> list[LogLine]:
    """A page: AWS's is at most 10,000 events and 1 MB, and holds at least one."""
    page: list[LogLine] = []
    size = 0
    for line in lines:
        size += len(line.message.encode()) + _EVENT_OVERHEAD
        if page and (size > _PAGE_BYTES or len(page) >= min(limit, _PAGE_EVENTS)):
            break
        page.append(line)
    return page


def _place(line: LogLine) -> list[Any]:
    """Where a line stands in the order of pages; tokens carry it."""
    came, _, number = line.id.partition("-")
    return [line.at, int(came), int(number)]


def _ingested(line: LogLine) -> int:
    return int(line.id.partition("-")[0])


def _event_id(line: LogLine) -> str:
    """56 digits, as AWS's: it rises with the time at which the event came."""
    came, _, number = line.id.partition("-")
    return f"{int(came):020}{int(number):036}"


def _token(place: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read_token(token: str | None, kind: type) -> Any:
    if token is None:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, RecursionError):
        place = None
    good = isinstance(place, kind)
    if isinstance(place, list):
        good = good and len(place) == 3 and all(isinstance(part, int) for part in place)
    if not good:
        raise InvalidParameterException("The specified nextToken is invalid.")
    return place


@dataclass(frozen=True, slots=True)
class Operation:
    """`members`: those of the input that act. `harmless`: those that change nothing here, and why is in
    docs/logs.md."""

    handler: Handler
    members: frozenset[str]
    harmless: frozenset[str] = frozenset()


def _operation(handler: Handler, members: str, harmless: str = "") -> Operation:
    return Operation(handler, frozenset(members.split()), frozenset(harmless.split()))


_GROUP = "logGroupName logGroupIdentifier"
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "CreateLogGroup": _operation(create_log_group, "logGroupName"),
        "DeleteLogGroup": _operation(delete_log_group, "logGroupName"),
        "DescribeLogGroups": _operation(
            describe_log_groups, "logGroupNamePrefix logGroupNamePattern limit nextToken"
        ),
        "PutRetentionPolicy": _operation(put_retention_policy, "logGroupName retentionInDays"),
        "DeleteRetentionPolicy": _operation(delete_retention_policy, "logGroupName"),
        "CreateLogStream": _operation(create_log_stream, "logGroupName logStreamName"),
        "DeleteLogStream": _operation(delete_log_stream, "logGroupName logStreamName"),
        "DescribeLogStreams": _operation(
            describe_log_streams, f"{_GROUP} logStreamNamePrefix orderBy descending limit nextToken"
        ),
        "PutLogEvents": _operation(put_log_events, "logGroupName logStreamName logEvents", "sequenceToken"),
        "GetLogEvents": _operation(
            get_log_events,
            f"{_GROUP} logStreamName startTime endTime limit nextToken startFromHead",
            "unmask",
        ),
        "FilterLogEvents": _operation(
            filter_log_events,
            f"{_GROUP} logStreamNames logStreamNamePrefix startTime endTime filterPattern limit nextToken",
            "interleaved unmask",
        ),
    }
)
