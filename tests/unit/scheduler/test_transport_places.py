# mypy: allow-untyped-calls
"""URLs of the transport: what they name, in which forms, and that a password stays unsaid."""

import pytest
from kombu.connection import Connection

from lambent.scheduler.transport.cluster import Slots, slot_of
from lambent.scheduler.transport.places import parse, without_password
from lambent.scheduler.transport.streams import Transport


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("redis+streams://h:1/2", "redis://h:1/2"),
        ("streams+ssl://h", "rediss://h"),
        ("redis+streams+socket:///run/r.sock?db=1", "unix:///run/r.sock?db=1"),
        ("unix:///run/r.sock", "unix:///run/r.sock"),
        ("redis://h", "redis://h"),
    ],
)
def test_a_server_in_every_form(url: str, plain: str) -> None:
    place = parse(url)
    assert (place.kind, place.url()) == ("server", plain)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://u:p@a:1,b/?x=1",
        "streams+cluster://u:p@a:1,b?x=1",
        "redis+streams+cluster://u:p@a:1,b/0?x=1",
        "cluster://u:p@a:1;cluster://u:p@b/0?x=1",
    ],
)
def test_a_cluster_in_every_form(url: str) -> None:
    place = parse(url)
    assert (place.kind, place.nodes) == ("cluster", (("a", 1), ("b", 6379)))
    assert place.url(("c", 3)) == "redis://u:p@c:3/0?x=1"
    assert parse(place.for_kombu()) == place


@pytest.mark.parametrize(
    "url",
    [
        "redis+streams+sentinel://:p@a:1,[::1]/m/3",
        "sentinel://:p@a:1;sentinel://:p@[::1]/3?master_name=m",
        "streams+sentinel://:p@a:1;streams+sentinel://[::1]:26379/m/3",
    ],
)
def test_sentinels_in_every_form(url: str) -> None:
    place = parse(url)
    assert (place.kind, place.nodes, place.master) == ("sentinel", (("a", 1), ("::1", 26379)), "m")
    assert place.url(("::2", 3)) == "redis://:p@[::2]:3/3"
    assert parse(place.for_kombu()) == place


def test_the_masters_name_may_be_an_option() -> None:
    assert parse("sentinel://a/0", master_name="m").master == "m"


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("rediss+cluster://a/", "rediss://"),
        ("streams+cluster+ssl://a", "rediss://"),
        ("redis+streams+sentinel+ssl://a/m", "rediss://"),
        ("redis+cluster://a/", "redis://"),
    ],
)
def test_tls(url: str, scheme: str) -> None:
    place = parse(url)
    assert place.url(("a", 1)).startswith(scheme)
    assert parse(place.for_kombu()) == place


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://:secret@a:1/0",
        "redis+cluster://:secret@/",
        "redis+cluster://:secret@a:1/3",
        "redis+cluster://:secret@a:x/",
        "redis+cluster://:secret@a:70000/",
        "sentinel://:secret@a/m/n/0",
    ],
)
def test_what_is_none_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ValueError) as refusal:
        parse(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("streams://u:secret@h:1/0", "streams://u:**@h:1/0"),
        ("cluster://:secret@a:1,b:2/0", "cluster://:**@a:1,b:2/0"),
        ("sentinel://:secret@a;sentinel://:secret@b/0", "sentinel://:**@a;sentinel://:**@b/0"),
        ("redis://h/0?password=secret&x=1", "redis://h/0?password=**&x=1"),
        ("streams://h:1/0", "streams://h:1/0"),
    ],
)
def test_a_password_is_masked(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_kombu_finds_the_transport_by_its_names() -> None:
    for url in ("streams://h", "streams+cluster://a,b/", "streams+sentinel://a,b/m/0", "streams+ssl://h"):
        assert issubclass(Connection(url).get_transport_cls(), Transport)


def test_the_slot_of_a_command_is_that_of_its_first_key() -> None:
    expected = slot_of(("GET", "{a}"))
    assert expected is not None
    for command in (
        ("EVALSHA", b"digest", 2, "{a}:1", "{a}:2", "argument"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "{a}:s", ">"),
        ("XREAD", "STREAMS", "{a}:n", "0-0"),
        ("XGROUP", "CREATE", "{a}:s", "g", "0", "MKSTREAM"),
    ):
        assert slot_of(command) == expected
    assert slot_of(("INFO", "persistence")) is None


def test_slots_are_owned_as_told_and_as_a_moved_reply_says() -> None:
    rows = [[100, 16383, [b"", 2, b"id"]], [0, 98, [b"a", 1, b"id"], [b"replica", 3, b"id"]]]
    slots = Slots(rows, ("asked", 7))
    assert [slots.owner(slot) for slot in (0, 98, 99, 100, 16383)] == [
        *(("a", 1), ("a", 1), None, ("asked", 2), ("asked", 2)),
    ]
    slots.move(99, ("b", 4))
    assert slots.owner(99) == ("b", 4)
    assert slots.masters() == [("a", 1), ("asked", 2), ("b", 4)]
