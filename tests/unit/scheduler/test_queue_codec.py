"""queue_codec.py: events as bytes, now and as older releases wrote them."""

import pytest

from lambent.kernel.events import Condition, DeadEvent, Ending, Item, Line, OutcomeRecord
from lambent.kernel.models import Event, Tried
from lambent.scheduler.queue_codec import UnreadableEvent, decode, encode, line_of, read, rest, size

PLAIN = Event("id-1", "uid", "resize", b'{"a": 1}', 1769860800.25)
FULL = Event(
    "id-2",
    "uid",
    "resize",
    b"\x00\xff",
    1.5,
    qualifier="live",
    trace_id="Root=1",
    source="s3",
    attempt=3,
    tried=Tried(200, "Unhandled", "boom"),
)
ENDING = Ending(
    Condition.RETRIES_EXHAUSTED,
    at=2.5,
    attempts=3,
    status=200,
    executed_version="$LATEST",
    function_error="Unhandled",
    response=b'{"errorMessage": "boom"}',
    message="why",
)
BARE = Ending(Condition.EVENT_AGE_EXCEEDED, at=2.5, attempts=0)
ITEMS: list[Item] = [
    PLAIN,
    FULL,
    OutcomeRecord(FULL, ENDING, "arn:1", dead_letter=True, tries=7),
    OutcomeRecord(PLAIN, BARE, "arn:2", dead_letter=False),
    OutcomeRecord(PLAIN, ENDING._replace(response=b""), "arn:2", dead_letter=False),
    DeadEvent(FULL, ENDING, "arn:1", "it is down"),
    DeadEvent(PLAIN, BARE),
]


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_is_read_as_it_was_written(item: Item) -> None:
    encoded = read(encode(item))
    assert encoded.blob is None
    assert decode(encoded, lane="uid", line=line_of(item)) == item


@pytest.mark.parametrize("item", ITEMS)
def test_a_spilled_item_has_its_payloads_in_its_blob(item: Item) -> None:
    encoded = read(encode(item, blob="uid/name"))
    assert (encoded.blob, encoded.inside) == ("uid/name", b"")
    assert decode(encoded, lane="uid", line=line_of(item), rest=rest(item)) == item
    assert size(item) == len(rest(item))


def test_each_kind_has_its_line() -> None:
    assert [line_of(item) for item in ITEMS[1:4]] == [Line.LANE, Line.OUTCOMES, Line.OUTCOMES]
    assert line_of(ITEMS[-1]) is Line.DEAD


def test_an_event_is_no_outcome() -> None:
    with pytest.raises(UnreadableEvent, match="outcomes"):
        decode(read(encode(PLAIN)), lane="uid", line=Line.OUTCOMES)


def test_the_payload_is_neither_escaped_nor_encoded() -> None:
    payload = bytes(range(256))
    assert encode(Event("id", "uid", "f", payload, 0.0)).endswith(payload)


def test_schema_1_stays_readable() -> None:
    written = b'\x01\x00\x00\x00\x2c{"id":"id-1","f":"resize","at":1769860800.25}'
    written = written[:4] + bytes([len(written) - 5]) + written[5:] + b'{"a": 1}'
    assert decode(read(written), lane="uid", line=Line.LANE) == PLAIN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x00\x00\x00\x00\x02{}",
        b"\x01\x00\x00\xff\xff{}",
        b"\x01\x00\x00\x00\x02{}",
        b"\x01\x00\x00\x00\x02[]",
        b"\x01\x00\x00\x00\x02\xff\xff",
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        decode(read(data), lane="uid", line=Line.LANE)


def test_a_newer_schema_is_refused_by_its_number() -> None:
    with pytest.raises(UnreadableEvent, match="schema 2 is newer"):
        read(b"\x02" + encode(PLAIN)[1:])
