"""What an operator does with the lines over a link: look, bring back, throw away. A look takes messages and
gives them back, so they are out of reach of the reader meanwhile and count as delivered once more; what is in
flight here is told by the caller. Each function has a link of its own; it may raise what the link raises."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from lambent.kernel.events import DeadEvent, LaneDepth, Line
from lambent.scheduler.amqp.link import DUE, FIRST_PUT, Link, Message, give_back
from lambent.scheduler.amqp.names import Place
from lambent.scheduler.queue_codec import Encoded, UnreadableEvent, decode, encode, line_of, read
from lambent.scheduler.retry import redriven

MOST_LOOKED_AT = 5_000  # messages of a lane that one search may take

InFlight = Mapping[str, Sequence[Message]]


class Row(NamedTuple):
    """A message that is an item."""

    message: Message
    encoded: Encoded

    @property
    def due(self) -> float | None:
        """Seconds since the epoch."""
        due = self.message.headers.get(DUE)
        return None if due is None else float(due) / 1000


class Move(NamedTuple):
    """A message that goes to a line of its lane, with a new body."""

    row: Row
    line: Line
    body: bytes


# Puts moves where they go, and answers how many of them, from the first on, are stored.
Store = Callable[[Sequence[Move]], int]


def first_put(message: Message) -> float:
    """Seconds since the epoch."""
    return float(message.headers.get(FIRST_PUT, 0)) / 1000


def depths(
    link: Link,
    places: Iterable[Place],
    flying: InFlight,
    cradled: Mapping[str, int],
    head: Callable[[Link, str], float],
    now: float,
) -> list[LaneDepth]:
    """Of every lane that has anything on one of its lines; what is `cradled` counts as delayed.
    `head(link, queue)`: when about the oldest of a queue was put there."""
    lanes: dict[str, list[Place]] = {}
    for place in places:
        lanes.setdefault(place.lane, []).append(place)
    found = []
    for lane, parts in sorted(lanes.items()):
        counts = {place: link.count(place.queue) or 0 for place in parts}
        new = {line: sum(cradled.get(part.queue, 0) for part in parts if part.line is line) for line in Line}
        here = {line: flying.get(Place(line, lane).queue, ()) for line in Line}
        ready = counts.get(Place(Line.LANE, lane), 0)
        since = [first_put(message) for message in here[Line.LANE]]
        if ready:
            since.append(head(link, Place(Line.LANE, lane).queue))

        def total(line: Line, counts: Mapping[Place, int] = counts) -> int:
            return sum(count for place, count in counts.items() if place.line is line)

        depth = LaneDepth(
            lane=lane,
            ready=ready,
            in_flight=len(here[Line.LANE]),
            delayed=total(Line.LANE) - ready + new[Line.LANE],
            oldest_age=max(0.0, now - min(since)) if since else None,
            outcomes=total(Line.OUTCOMES) + len(here[Line.OUTCOMES]) + new[Line.OUTCOMES],
            dead=total(Line.DEAD) + new[Line.DEAD],
        )
        if depth.ready or depth.in_flight or depth.delayed or depth.outcomes or depth.dead:
            found.append(depth)
    return found


def _rows(messages: Iterable[Message]) -> Iterator[Row]:
    """Those that are items; the others are set aside when their turn comes."""
    for message in messages:
        try:
            yield Row(message, read(message.body))
        except UnreadableEvent:
            continue


def head(link: Link, queue: str) -> float:
    """When the oldest of a queue was first put on its line; now, where there is none."""
    taken = list(link.take(queue, 1))
    give_back(link, queue, taken)
    return first_put(taken[0]) if taken else time.time()


def peek(link: Link, places: Sequence[Place], flying: Sequence[Message], limit: int) -> list[Row]:
    """The oldest of a line: in flight, ready, and then waiting ones by their due time. `places`: the line's."""
    found = list(_rows(flying))[:limit]
    for place in places:
        if not place.step and len(found) < limit:
            found += list(_looked_at(link, place, limit - len(found)))
    waiting: list[Row] = []
    if len(found) < limit:
        for place in places:
            if place.step:
                waiting += _looked_at(link, place, limit)
    waiting.sort(key=lambda row: row.due or 0.0)
    return (found + waiting)[:limit]


def _looked_at(link: Link, place: Place, limit: int) -> list[Row]:
    taken = list(link.take(place.queue, limit))
    give_back(link, place.queue, taken)
    return list(_rows(taken))


def redrive(
    link: Link,
    lane: str,
    limit: int,
    request_id: str | None,
    store: Store,
    now: float,
) -> int:
    """Moves dead events, the oldest or those of one request, to where `retry.redriven` says; how many."""
    queue = Place(Line.DEAD, lane).queue
    chosen: list[Row] = []
    others: list[Message] = []
    for message in link.take(queue, MOST_LOOKED_AT):
        row = next(_rows([message]), None)
        if row is not None and (request_id is None or row.encoded.header.get("id") == request_id):
            chosen.append(row)
        else:
            others.append(message)
        if len(chosen) >= limit:
            break
    moves: list[Move] = []
    for row in chosen:
        dead = decode(row.encoded, lane=lane, line=Line.DEAD)
        assert isinstance(dead, DeadEvent)
        item = redriven(dead, now)
        blob = row.encoded.blob
        length = None if blob is None else row.encoded.header["p"]
        moves.append(Move(row, line_of(item), encode(item, blob=blob, length=length)))
    return _move(link, queue, moves, others, store)


def hasten(
    link: Link,
    places: Sequence[Place],
    request_id: str,
    store: Store,
) -> int:
    """Puts events of a request that wait on their lane; how many. `places`: the lane's."""
    moved = 0
    for place in places:
        if not place.step:
            continue
        chosen: list[Move] = []
        others: list[Message] = []
        for message in link.take(place.queue, MOST_LOOKED_AT):
            row = next(_rows([message]), None)
            if row is not None and row.encoded.header.get("id") == request_id:
                chosen.append(Move(row, Line.LANE, message.body))
            else:
                others.append(message)
        moved += _move(link, place.queue, chosen, others, store)
    return moved


def _move(
    link: Link,
    queue: str,
    moves: Sequence[Move],
    others: Sequence[Message],
    store: Store,
) -> int:
    """Added before ended: a crash between leaves two."""
    stored = 0
    try:
        stored = store(moves) if moves else 0
    finally:
        link.ack([move.row.message.tag for move in moves[:stored]])
        give_back(link, queue, [*others, *(move.row.message for move in moves[stored:])])
    return stored


def trim(link: Link, lane: str, keep: int) -> tuple[int, list[str]]:
    """Drops the oldest dead events beyond `keep`; how many, and the names of their blobs."""
    queue = Place(Line.DEAD, lane).queue
    dropped, blobs = 0, list[str]()
    for message in link.take(queue, max(0, (link.count(queue) or 0) - keep)):
        blobs += [row.encoded.blob for row in _rows([message]) if row.encoded.blob is not None]
        link.ack([message.tag])
        dropped += 1
    return dropped, blobs


def drop(link: Link, places: Sequence[Place]) -> dict[Place, int]:
    """Deletes queues, those of waits first; how many messages were in each."""
    return {place: link.delete(place.queue) for place in sorted(places, key=lambda place: -place.step)}


def blobs_in_use(link: Link, places: Sequence[Place]) -> set[str] | None:
    """The blobs that messages name; None when there are too many to look at. Waiting ones first, and then the
    rest: what becomes due meanwhile is seen twice, never missed."""
    if sum(link.count(place.queue) or 0 for place in places) > MOST_LOOKED_AT:
        return None
    names: set[str] = set()
    for place in sorted(places, key=lambda place: -place.step):
        taken: list[Message] = []
        for message in link.take(place.queue, MOST_LOOKED_AT):
            names |= {row.encoded.blob for row in _rows([message]) if row.encoded.blob is not None}
            taken.append(replace(message, body=b""))
        give_back(link, place.queue, taken)
    return names
