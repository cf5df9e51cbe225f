"""What an operator does with the lines on Redis Streams: look, bring back, throw away. Each function takes a
channel of its own connection, so that a long look holds up no publish; they may raise what the transport
raises."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lambent.kernel.events import DeadEvent, LaneDepth, Line
from lambent.scheduler.queue_codec import Encoded, UnreadableEvent, decode, encode, line_of, read
from lambent.scheduler.queue_names import parse_queue, queue_of
from lambent.scheduler.retry import redriven
from lambent.scheduler.transport.streams import Channel, Replacement

CONTENT_TYPE = "application/x-lambent-event"
_PAGE = 100
_MOST_LOOKED_AT = 100_000  # items of a lane that one search may read


def prepared(body: bytes) -> dict[str, Any]:
    """A message as the transport stores it."""
    return {
        "body": body,
        "content-type": CONTENT_TYPE,
        "content-encoding": "binary",
        "headers": {},
        "properties": {},
    }


def depths(channel: Channel) -> list[LaneDepth]:
    """Of every lane that has anything on one of its lines."""
    by_lane: dict[str, dict[Line, tuple[int, int, int, float]]] = {}
    for queue, numbers in channel.stats(channel.queues()).items():
        named = parse_queue(queue)
        if named is not None:
            by_lane.setdefault(named[1], {})[named[0]] = numbers
    nothing = (0, 0, 0, -1.0)
    found = []
    for lane, lines in sorted(by_lane.items()):
        length, pending, delayed, age = lines.get(Line.LANE, nothing)
        found.append(
            LaneDepth(
                lane=lane,
                ready=max(0, length - pending),
                in_flight=pending,
                delayed=delayed,
                oldest_age=age if age >= 0 else None,
                outcomes=_total(lines.get(Line.OUTCOMES, nothing)),
                dead=_total(lines.get(Line.DEAD, nothing)),
            )
        )
    return found


def _total(numbers: tuple[int, int, int, float]) -> int:
    return numbers[0] + numbers[2]


def peek(channel: Channel, lane: str, line: Line, limit: int) -> list[tuple[Encoded, float | None]]:
    """The oldest items as they were read, with their due time where they are delayed."""
    queue = queue_of(line, lane)
    found: list[tuple[Encoded, float | None]] = [
        (encoded, None) for _, encoded in _readable(channel.peek(queue, limit))
    ]
    if len(found) < limit:
        for _, due, message in channel.peek_delayed(queue, limit - len(found)):
            found += [(encoded, due) for _, encoded in _readable([message])]
    return found


def _readable(messages: Sequence[Any]) -> Iterator[tuple[Any, Encoded]]:
    """Messages that are items; the others are set aside when their turn comes."""
    for message in messages:
        try:
            yield message, read(message.body)
        except UnreadableEvent:
            continue


def _pages(channel: Channel, queue: str) -> Iterator[tuple[Any, Encoded]]:
    after, seen = "-", 0
    while seen < _MOST_LOOKED_AT and (messages := channel.peek(queue, _PAGE, after=after)):
        yield from _readable(messages)
        after, seen = messages[-1].delivery_tag, seen + len(messages)


def _delayed_pages(channel: Channel, queue: str) -> Iterator[tuple[str, Encoded]]:
    offset = 0
    while offset < _MOST_LOOKED_AT and (rows := channel.peek_delayed(queue, _PAGE, offset=offset)):
        for name, _, message in rows:
            for _, encoded in _readable([message]):
                yield name, encoded
        offset += len(rows)


class Found(NamedTuple):
    """A dead event as it lies there."""

    tag: str
    encoded: Encoded


def dead(channel: Channel, lane: str, limit: int, request_id: str | None) -> list[Found]:
    """The oldest dead events, or those of one request."""
    found: list[Found] = []
    for message, encoded in _pages(channel, queue_of(Line.DEAD, lane)):
        if request_id is None or encoded.header.get("id") == request_id:
            found.append(Found(message.delivery_tag, encoded))
        if len(found) >= limit:
            break
    return found


def redrive(channel: Channel, lane: str, found: Sequence[Found], now: float) -> int:
    """Moves dead events to where `retry.redriven` says; how many were still there. A spilled payload stays
    where it is."""
    moved = 0
    for start in range(0, len(found), _PAGE):
        moves = []
        for tag, encoded in found[start : start + _PAGE]:
            dead = decode(encoded, lane=lane, line=Line.DEAD)
            assert isinstance(dead, DeadEvent)
            item = redriven(dead, now)
            length = None if encoded.blob is None else encoded.header["p"]
            body = encode(item, blob=encoded.blob, length=length)
            moves.append((tag, [Replacement(queue_of(line_of(item), lane), prepared(body))]))
        moved += sum(channel.replace_many(moves))
    return moved


def hasten(channel: Channel, lane: str, request_id: str) -> int:
    """Makes delayed events of a request due; how many."""
    queue = queue_of(Line.LANE, lane)
    ids = [name for name, encoded in _delayed_pages(channel, queue) if encoded.header.get("id") == request_id]
    return channel.hasten(queue, ids) if ids else 0


def trim(channel: Channel, lane: str, keep: int) -> tuple[int, list[str]]:
    """Drops the oldest dead events beyond `keep`; how many, and the names of their blobs."""
    queue = queue_of(Line.DEAD, lane)
    length, _, _, _ = channel.stats([queue])[queue]
    dropped, blobs = 0, list[str]()
    while length > keep:
        messages = channel.peek(queue, min(_PAGE, length - keep))
        if not messages:
            break
        tags = [message.delivery_tag for message in messages]
        # By nothing, for the answers: one that a redrive has just taken still needs its blob.
        answers = channel.replace_many([(tag, []) for tag in tags])
        gone = {tag for tag, was in zip(tags, answers, strict=True) if was}
        blobs += [
            encoded.blob
            for message, encoded in _readable(messages)
            if encoded.blob is not None and message.delivery_tag in gone
        ]
        dropped += len(gone)
        length -= len(messages)
    return dropped, blobs


def drop(channel: Channel, lane: str) -> int:
    """Deletes the queues of what would run; how many events were on the lane."""
    dropped = channel.delete_queue(queue_of(Line.LANE, lane))
    channel.delete_queue(queue_of(Line.DEAD, lane))
    return dropped


def blobs_in_use(channel: Channel, lane: str) -> frozenset[str] | None:
    """The blobs that items of a lane name; None when there are too many items to look at. Delayed ones first,
    and then the rest: what becomes due meanwhile is seen twice, never missed."""
    queues = [queue_of(line, lane) for line in Line]
    if sum(_total(numbers) for numbers in channel.stats(queues).values()) > _MOST_LOOKED_AT:
        return None
    names: set[str | None] = set()
    for queue in queues:
        names |= {encoded.blob for _, encoded in _delayed_pages(channel, queue)}
        names |= {encoded.blob for _, encoded in _pages(channel, queue)}
    return frozenset(name for name in names if name is not None)
