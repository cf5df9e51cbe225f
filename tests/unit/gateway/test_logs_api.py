"""CloudWatch Logs' operations, as requests and answers."""

import json
import time
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from lambent.gateway.cloudwatch.api import LogsApi, target_of
from lambent.gateway.cloudwatch.handlers import Logs
from lambent.gateway.protocol.reply import Reply, Streamed
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import ServiceException
from lambent.kernel.store.memory_logs import MemoryLogs

G, S = "app/one", "stream"


async def never(_: float) -> bool:
    return False


class World:
    def __init__(self) -> None:
        self.store = MemoryLogs()
        self.api = LogsApi(Logs(self.store, SystemClock(), "us-east-1", "000000000000"))
        self.now = int(time.time() * 1000)

    async def raw(self, operation: str, body: bytes, *, restricted: bool = False) -> tuple[int, dict[str, Any]]:
        reply = await self.api.serve(operation, body, restricted=restricted, request_id="r", gone=never)
        assert isinstance(reply, Reply)
        assert (b"content-type", b"application/x-amz-json-1.1") in reply.headers
        return reply.status, json.loads(reply.body)

    async def ask(self, operation: str, **members: Any) -> dict[str, Any]:
        status, answer = await self.raw(operation, json.dumps(members).encode())
        assert status == 200, answer
        return answer

    async def refused(self, operation: str, **members: Any) -> tuple[str, str]:
        status, answer = await self.raw(operation, json.dumps(members).encode())
        assert status == 400, answer
        return answer["__type"], answer["message"]

    async def put(self, *lines: tuple[int, str], stream: str = S) -> dict[str, Any]:
        """Lines at so many ms from now."""
        events = [{"timestamp": self.now + at, "message": text} for at, text in lines]
        return await self.ask("PutLogEvents", logGroupName=G, logStreamName=stream, logEvents=events)


@pytest.fixture
async def world() -> World:
    made = World()
    await made.ask("CreateLogGroup", logGroupName=G)
    await made.ask("CreateLogStream", logGroupName=G, logStreamName=S)
    return made


def test_a_request_is_told_by_its_header() -> None:
    assert target_of([(b"x-amz-target", b"Logs_20140328.PutLogEvents")]) == "PutLogEvents"
    assert target_of([(b"x-amz-target", b"DynamoDB_20120810.GetItem")]) is None
    assert target_of([]) is None


async def test_groups(world: World) -> None:
    await world.ask("CreateLogGroup", logGroupName="other")
    await world.ask("PutRetentionPolicy", logGroupName=G, retentionInDays=7)
    groups = (await world.ask("DescribeLogGroups"))["logGroups"]
    assert [group["logGroupName"] for group in groups] == [G, "other"]
    assert groups[0]["retentionInDays"] == 7 and "retentionInDays" not in groups[1]
    assert groups[0]["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{G}:*"
    assert abs(groups[0]["creationTime"] - world.now) < 60_000
    [found] = (await world.ask("DescribeLogGroups", logGroupNamePrefix="app"))["logGroups"]
    assert found["logGroupName"] == G
    [found] = (await world.ask("DescribeLogGroups", logGroupNamePattern="OTH"))["logGroups"]
    assert found["logGroupName"] == "other"
    await world.ask("DeleteRetentionPolicy", logGroupName=G)
    await world.ask("DeleteLogGroup", logGroupName="other")
    [group] = (await world.ask("DescribeLogGroups"))["logGroups"]
    assert "retentionInDays" not in group


async def test_pages_of_groups_and_streams(world: World) -> None:
    for n in range(4):
        await world.ask("CreateLogGroup", logGroupName=f"g{n}")
        await world.ask("CreateLogStream", logGroupName=G, logStreamName=f"s{n}")
    for operation, members, rows, name in (
        ("DescribeLogGroups", {}, "logGroups", "logGroupName"),
        ("DescribeLogStreams", {"logGroupName": G}, "logStreams", "logStreamName"),
        ("DescribeLogStreams", {"logGroupName": G, "descending": True}, "logStreams", "logStreamName"),
    ):
        names: list[str] = []
        token: dict[str, str] = {}
        for pages in range(10):  # noqa: B007
            answer = await world.ask(operation, limit=2, **members, **token)
            names += [row[name] for row in answer[rows]]
            if "nextToken" not in answer:
                break
            token = {"nextToken": answer["nextToken"]}
        assert len(names) == len(set(names)) == 5 and pages == 2
        assert names == sorted(names, reverse="descending" in members)


async def test_streams_by_their_last_event(world: World) -> None:
    await world.ask("CreateLogStream", logGroupName=G, logStreamName="late")
    await world.put((0, "a"))
    await world.put((-500, "b"), (5, "c"), stream="late")
    answer = await world.ask("DescribeLogStreams", logGroupName=G, orderBy="LastEventTime", descending=True)
    assert [stream["logStreamName"] for stream in answer["logStreams"]] == ["late", S]
    late = answer["logStreams"][0]
    assert (late["firstEventTimestamp"], late["lastEventTimestamp"]) == (world.now - 500, world.now + 5)
    assert late["arn"].endswith(f":log-group:{G}:log-stream:late")
    await world.ask("DeleteLogStream", logGroupName=G, logStreamName="late")
    assert len((await world.ask("DescribeLogStreams", logGroupName=G))["logStreams"]) == 1


async def test_events_are_read_forwards_and_backwards(world: World) -> None:
    await world.put(*((n, str(n)) for n in range(5)))
    asked = {"logGroupName": G, "logStreamName": S, "limit": 2}
    page = await world.ask("GetLogEvents", **asked, startFromHead=True)
    seen = [event["message"] for event in page["events"]]
    while True:
        token = page["nextForwardToken"]
        page = await world.ask("GetLogEvents", **asked, nextToken=token)
        if not page["events"]:
            break
        seen += [event["message"] for event in page["events"]]
    assert seen == ["0", "1", "2", "3", "4"]
    assert page["nextForwardToken"] == token, "AWS: the end is where the token stays"
    page = await world.ask("GetLogEvents", **asked)
    assert [event["message"] for event in page["events"]] == ["3", "4"]
    page = await world.ask("GetLogEvents", **asked, nextToken=page["nextBackwardToken"])
    assert [event["message"] for event in page["events"]] == ["1", "2"]
    page = await world.ask("GetLogEvents", **asked, startTime=world.now + 1, endTime=world.now + 2)
    assert [event["message"] for event in page["events"]] == ["1"]


async def test_an_empty_stream_has_tokens_that_can_be_used(world: World) -> None:
    asked = {"logGroupName": G, "logStreamName": S}
    page = await world.ask("GetLogEvents", **asked, startFromHead=True)
    assert page["events"] == []
    await world.put((0, "first"))
    page = await world.ask("GetLogEvents", **asked, nextToken=page["nextForwardToken"])
    assert [event["message"] for event in page["events"]] == ["first"]


async def test_events_are_filtered_over_streams_by_time(world: World) -> None:
    await world.ask("CreateLogStream", logGroupName=G, logStreamName="other")
    await world.put((0, "ERROR a"), (2, "fine"), (4, "ERROR c"))
    await world.put((1, "ERROR b"), stream="other")
    found = await world.ask("FilterLogEvents", logGroupName=G, filterPattern="ERROR")
    assert [event["message"] for event in found["events"]] == ["ERROR a", "ERROR b", "ERROR c"]
    assert len({event["eventId"] for event in found["events"]}) == 3
    by_arn = await world.ask(
        "FilterLogEvents",
        logGroupIdentifier=f"arn:aws:logs:us-east-1:000000000000:log-group:{G}",
        logStreamNames=["other"],
    )
    assert [event["logStreamName"] for event in by_arn["events"]] == ["other"]
    first = await world.ask("FilterLogEvents", logGroupName=G, limit=3)
    rest = await world.ask("FilterLogEvents", logGroupName=G, limit=3, nextToken=first["nextToken"])
    assert [event["message"] for event in rest["events"]] == ["ERROR c"] and "nextToken" not in rest
    none = await world.ask("FilterLogEvents", logGroupName=G, logStreamNamePrefix="x")
    assert none["events"] == []


async def test_events_too_old_too_new_or_expired_are_rejected_and_told(world: World) -> None:
    day = 86_400_000
    assert "rejectedLogEventsInfo" not in await world.put((0, "a"))
    old = await world.put((-15 * day, "old"), (-14 * day - 60_000, "old"))
    assert old["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 2}
    new = await world.put((0, "b"), (2 * 3_600_000 + 60_000, "new"))
    assert new["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 1}
    await world.ask("PutRetentionPolicy", logGroupName=G, retentionInDays=1)
    expired = await world.put((-day - 60_000, "expired"), (-day + 60_000, "c"))
    assert expired["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 1}
    lines = await world.store.scan(G, since=0, until=1 << 60)
    assert [line.message for line in lines] == ["c", "a", "b"]


async def test_batches_have_awss_bounds(world: World) -> None:
    def events(*rows: tuple[int, str]) -> dict[str, Any]:
        rows_ = [{"timestamp": world.now + at, "message": text} for at, text in rows]
        return {"logGroupName": G, "logStreamName": S, "logEvents": rows_}

    for members, words in (
        (events((1, "a"), (0, "b")), "chronological order"),
        (events((-25 * 3_600_000, "a"), (0, "b")), "24 hours"),
        (events(*((0, "x" * 250_000) for _ in range(5))), "Upload too large"),
        (events((0, "x" * 262_145)), "Log event too large"),
        (events(), "Member must have length greater than or equal to 1"),
        (events((0, "")), "Member must have length greater than or equal to 1"),
    ):
        kind, message = await world.refused("PutLogEvents", **members)
        assert kind == "InvalidParameterException" and words in message, (message, words)


@pytest.mark.parametrize(
    ("operation", "members", "kind", "words"),
    [
        ("CreateLogGroup", {"logGroupName": G}, "ResourceAlreadyExistsException", "log group already exists"),
        (
            "CreateLogStream",
            {"logGroupName": G, "logStreamName": S},
            "ResourceAlreadyExistsException",
            "log stream",
        ),
        (
            "CreateLogStream",
            {"logGroupName": "no", "logStreamName": S},
            "ResourceNotFoundException",
            "log group",
        ),
        ("DeleteLogGroup", {"logGroupName": "no"}, "ResourceNotFoundException", "log group does not exist"),
        (
            "DeleteLogStream",
            {"logGroupName": "no", "logStreamName": S},
            "ResourceNotFoundException",
            "log group",
        ),
        (
            "DeleteLogStream",
            {"logGroupName": G, "logStreamName": "no"},
            "ResourceNotFoundException",
            "log stream",
        ),
        ("DescribeLogStreams", {"logGroupName": "no"}, "ResourceNotFoundException", "log group"),
        ("DescribeLogStreams", {}, "InvalidParameterException", "must be specified"),
        ("GetLogEvents", {"logGroupName": "no", "logStreamName": S}, "ResourceNotFoundException", "log group"),
        ("GetLogEvents", {"logGroupName": G, "logStreamName": "no"}, "ResourceNotFoundException", "log stream"),
        ("FilterLogEvents", {"logGroupName": "no"}, "ResourceNotFoundException", "log group"),
        (
            "FilterLogEvents",
            {"logGroupName": G, "logGroupIdentifier": G},
            "InvalidParameterException",
            "exclusive",
        ),
        ("FilterLogEvents", {"logGroupName": G, "nextToken": "x"}, "InvalidParameterException", "nextToken"),
        (
            "FilterLogEvents",
            {"logGroupName": G, "filterPattern": "{"},
            "InvalidParameterException",
            "filter pattern",
        ),
        (
            "FilterLogEvents",
            {"logGroupName": G, "startFromHead": True},
            "InvalidParameterException",
            "not built",
        ),
        (
            "GetLogEvents",
            {"logGroupName": G, "logStreamName": S, "nextToken": "q/x"},
            "InvalidParameterException",
            "",
        ),
        (
            "PutRetentionPolicy",
            {"logGroupName": G, "retentionInDays": 2},
            "InvalidParameterException",
            "[1, 3, 5",
        ),
        ("PutRetentionPolicy", {"logGroupName": "no", "retentionInDays": 1}, "ResourceNotFoundException", ""),
        ("CreateLogGroup", {"logGroupName": "a b"}, "InvalidParameterException", "logGroupName"),
        ("CreateLogGroup", {}, "InvalidParameterException", "logGroupName"),
        ("CreateLogGroup", {"logGroupName": 7}, "SerializationException", ""),
        ("CreateLogGroup", {"logGroupName": "x", "kmsKeyId": "k"}, "InvalidParameterException", "kmsKeyId"),
        ("CreateLogGroup", {"logGroupName": "x", "tags": {"a": "b"}}, "InvalidParameterException", "tags"),
        ("Nothing", {}, "UnknownOperationException", "Nothing"),
    ],
)
async def test_what_is_wrong_is_told_as_aws_does(
    world: World, operation: str, members: dict[str, Any], kind: str, words: str
) -> None:
    found, message = await world.refused(operation, **members)
    assert found == kind and words in message


async def test_what_is_not_built_names_itself(world: World) -> None:
    status, answer = await world.raw("StartQuery", b"{}")
    assert status == 501 and "StartQuery" in answer["message"] and "FilterLogEvents" in answer["message"]
    for body in (b"[]", b"{", b"\xff", b"7"):
        status, answer = await world.raw("CreateLogGroup", body)
        assert (status, answer["__type"]) == (400, "SerializationException")


async def test_functions_write_groups_of_their_own_names_and_read_none(world: World) -> None:
    async def restricted(operation: str, **members: Any) -> int:
        status, _ = await world.raw(operation, json.dumps(members).encode(), restricted=True)
        return status

    assert await restricted("CreateLogGroup", logGroupName="theirs") == 200
    assert await restricted("CreateLogStream", logGroupName="theirs", logStreamName="s") == 200
    assert await restricted("CreateLogGroup", logGroupName="/aws/lambda/other") == 400
    assert await restricted("FilterLogEvents", logGroupName="theirs") == 400
    assert await restricted("DeleteLogGroup", logGroupName="theirs") == 400


async def test_a_store_that_does_not_answer_is_told_as_such(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise ServiceException("The log store's server does not answer.")

    monkeypatch.setattr(world.store, "flush", fails)
    status, answer = await world.raw("DescribeLogGroups", b"{}")
    assert status == 500
    assert answer == {
        "__type": "ServiceUnavailableException",
        "message": "The log store's server does not answer.",
    }


class Tail:
    """A live tail whose seconds the test counts."""

    def __init__(self, world: World) -> None:
        self.world, self.seconds = world, 0
        self.between: list[Any] = []

    async def gone(self, _: float) -> bool:
        if not self.between:
            return True
        self.seconds += 1
        await self.between.pop(0)()
        return False

    async def events(self, **members: Any) -> list[tuple[str, Any]]:
        body = json.dumps({"logGroupIdentifiers": [ARN], **members}).encode()
        reply = await self.world.api.serve(
            "StartLiveTail", body, restricted=False, request_id="r", gone=self.gone
        )
        assert isinstance(reply, Streamed), reply
        buffer = EventStreamBuffer()
        async for message in reply.chunks:
            buffer.add_data(message)
        return [
            (event.headers.get(":event-type") or event.headers[":exception-type"], json.loads(event.payload))
            for event in buffer
        ]


ARN = f"arn:aws:logs:us-east-1:000000000000:log-group:{G}"


async def test_a_live_tail_has_what_is_logged_after_its_start_and_passes_its_filters(world: World) -> None:
    await world.put((0, "before"))
    tail = Tail(world)

    async def first() -> None:
        await world.put((1, "an ERROR"), (2, "fine"))
        await world.ask("CreateLogStream", logGroupName=G, logStreamName="other")
        await world.put((3, "ERROR elsewhere"), stream="other")

    async def second() -> None:
        await world.put((4, "ERROR again"))

    tail.between = [first, second]
    events = await tail.events(logEventFilterPattern="ERROR", logStreamNames=[S])
    assert [kind for kind, _ in events] == ["initial-response", "sessionStart", *["sessionUpdate"] * 2]
    start = events[1][1]
    assert (start["requestId"], start["logGroupIdentifiers"], start["logStreamNames"]) == ("r", [ARN], [S])
    assert start["sessionId"]
    found = [line for _, update in events[2:] for line in update["sessionResults"]]
    assert [(line["message"], line["logStreamName"], line["logGroupIdentifier"]) for line in found] == [
        ("an ERROR", S, ARN),
        ("ERROR again", S, ARN),
    ]
    assert all(line["timestamp"] >= world.now and line["ingestionTime"] for line in found)
    assert events[2][1]["sessionMetadata"] == {"sampled": False}


async def test_of_very_much_a_live_tail_shows_a_sample_and_says_so(world: World) -> None:
    tail = Tail(world)

    async def much() -> None:
        await world.put(*((number, str(number)) for number in range(700)))

    tail.between = [much]
    update = (await tail.events())[-1][1]
    assert update["sessionMetadata"] == {"sampled": True}
    assert [line["message"] for line in update["sessionResults"]] == [str(number) for number in range(200, 700)]


async def test_a_live_tail_ends_when_the_server_stops(world: World) -> None:
    tail = Tail(world)

    async def stop() -> None:
        world.api.close()

    tail.between = [stop, stop]
    await tail.events()
    assert tail.seconds == 1


@pytest.mark.parametrize(
    "members, kind",
    [
        ({"logGroupIdentifiers": [ARN + "x"]}, "ResourceNotFoundException"),
        ({"logGroupIdentifiers": [ARN + ":*"]}, "InvalidParameterException"),
        ({"logGroupIdentifiers": [G]}, "InvalidParameterException"),
        ({"logGroupIdentifiers": [ARN, ARN], "logStreamNames": ["a"]}, "InvalidParameterException"),
        (
            {"logGroupIdentifiers": [ARN], "logStreamNames": ["a"], "logStreamNamePrefixes": ["b"]},
            "InvalidParameterException",
        ),
        ({"logGroupIdentifiers": [ARN], "logEventFilterPattern": "{"}, "InvalidParameterException"),
        ({}, "InvalidParameterException"),
    ],
)
async def test_a_live_tail_that_cannot_be(world: World, members: Any, kind: str) -> None:
    assert (await world.refused("StartLiveTail", **members))[0] == kind
