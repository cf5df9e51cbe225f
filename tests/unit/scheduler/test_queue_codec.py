"""queue_codec.py: events as bytes, now and as older releases wrote them."""

import pytest

from lambent.kernel.models import Event
from lambent.scheduler.queue_codec import UnreadableEvent, decode, encode

PLAIN = Event("id-1", "uid", "resize", b'{"a": 1}', 1769860800.25)
FULL = Event(
    "id-2", "uid", "resize", b"\x00\xff", 1.5, qualifier="live", trace_id="Root=1", source="s3", attempt=3
)


@pytest.mark.parametrize("event", [PLAIN, FULL])
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    assert decode(encode(event), lane="uid") == event


def test_the_payload_is_neither_escaped_nor_encoded() -> None:
    payload = bytes(range(256))
    assert encode(Event("id", "uid", "f", payload, 0.0)).endswith(payload)


def test_schema_1_stays_readable() -> None:
    written = b'\x01\x00\x00\x00\x2c{"id":"id-1","f":"resize","at":1769860800.25}'
    written = written[:4] + bytes([len(written) - 5]) + written[5:] + b'{"a": 1}'
    assert decode(written, lane="uid") == PLAIN


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
        decode(data, lane="uid")


def test_a_newer_schema_is_refused_by_its_number() -> None:
    with pytest.raises(UnreadableEvent, match="schema 2 is newer"):
        decode(b"\x02" + encode(PLAIN)[1:], lane="uid")
