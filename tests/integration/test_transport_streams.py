# mypy: allow-untyped-calls
"""The transport as any kombu user meets it: producers, consumers, exchanges, rejects; and its extensions."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer
from support import RedisServer

from lambent.scheduler.transport.streams import Channel, close_channel, connect, open_channel

SOURCES = Path(__file__).parents[2] / "scheduler/lambent/scheduler/transport"


@pytest.fixture
def connection(redis_url: str) -> Iterator[Any]:
    with connect(redis_url.replace("redis://", "redis+streams://"), shards=3) as made:
        yield made


@pytest.fixture
def channel(redis_url: str) -> Iterator[Channel]:
    made = open_channel(redis_url, shards=3, consumer_name="me")
    yield made
    close_channel(made)


def put(channel: Any, queue: str, *bodies: Any, headers: dict[str, Any] | None = None) -> None:
    producer: Any = Producer(channel, auto_declare=False)
    for body in bodies:
        producer.publish(body, routing_key=queue, headers=headers)


def test_objects_go_through_a_direct_exchange_to_a_consumer(connection: Any) -> None:
    queue = Queue("orders", Exchange("shop", type="direct"), routing_key="new")
    got: list[Any] = []

    def on_message(body: Any, message: Any) -> None:
        got.append((body, message.headers, message.delivery_info["exchange"]))
        message.ack()

    with connection.Consumer(queue, callbacks=[on_message]):
        connection.Producer().publish(
            {"n": 1, "text": "ü"}, exchange="shop", routing_key="new", headers={"h": 1}, declare=[queue]
        )
        connection.drain_events(timeout=5)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.05)
    assert got == [({"n": 1, "text": "ü"}, {"h": 1}, "shop")]
    assert queue(connection.default_channel).queue_declare(passive=True).message_count == 0


def test_topic_and_fanout_bindings_are_known_to_other_connections(redis_url: str) -> None:
    with connect(redis_url) as one, connect(redis_url) as two:
        topic, news = Exchange("topic", type="topic"), Exchange("news", type="fanout")
        for name, exchange, key in (
            ("a", topic, "log.*"),
            ("b", topic, "log.error"),
            ("c", news, ""),
            ("d", news, ""),
        ):
            Queue(name, exchange, routing_key=key)(one.default_channel).declare()
        producer: Any = two.Producer()
        producer.publish("t", exchange=topic, routing_key="log.error", declare=[topic])
        producer.publish("f", exchange=news, declare=[news])
        sizes = {name: two.default_channel._size(name) for name in "abcd"}
    assert sizes == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_a_batch_is_stored_in_one_round_trip(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = 0
    run = channel.wire.run

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal trips
        trips += 1
        return run(*arguments, **options)

    monkeypatch.setattr(channel.wire, "run", counted)
    producer: Any = Producer(channel, auto_declare=False)
    with producer.batch():
        for number in range(100):
            producer.publish(number, routing_key=f"q{number % 5}")
    assert trips == 1
    assert [channel._size(f"q{i}") for i in range(5)] == [20] * 5


def test_a_batch_that_raises_stores_nothing(channel: Channel) -> None:
    producer: Any = Producer(channel, auto_declare=False)
    with pytest.raises(ZeroDivisionError), producer.batch():
        producer.publish(1, routing_key="q")
        raise ZeroDivisionError
    assert channel._size("q") == 0


def test_bodies_lie_raw_in_the_stream(channel: Channel, redis_server: RedisServer) -> None:
    body = bytes(range(256))
    producer: Any = Producer(channel, auto_declare=False)
    producer.publish(body, routing_key="q", content_type="application/data", content_encoding="binary")
    with redis_server.client() as client:
        [(_, fields)] = client.xrange(channel.keys.stream("q"))
    assert fields[b"b"] == body
    message: Any = channel.basic_get("q")
    assert message.body == body


def test_prefetch_count_bounds_what_is_delivered(connection: Any) -> None:
    got: list[Any] = []
    queue = Queue("q", Exchange("e"), routing_key="q")
    consumer: Consumer = connection.Consumer(queue, on_message=got.append, prefetch_count=2)
    for number in range(5):
        connection.Producer().publish(number, exchange="e", routing_key="q", declare=[queue])
    with consumer:
        for _ in range(2):
            connection.drain_events(timeout=5)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.05)
        got[0].ack()
        connection.drain_events(timeout=5)
    assert len(got) == 3


def test_a_rejected_message_is_gone_and_a_requeued_one_comes_again(channel: Channel) -> None:
    put(channel, "q", "bad", "again")
    first: Any = channel.basic_get("q")
    second: Any = channel.basic_get("q")
    first.reject()
    second.requeue()
    third: Any = channel.basic_get("q")
    assert third.payload == "again"
    third.ack()
    assert channel.queues() == []


def test_a_channel_that_closes_leaves_its_messages_to_the_next(redis_url: str) -> None:
    one = open_channel(redis_url, consumer_name="me")
    put(one, "q", "kept")
    assert one.basic_get("q") is not None
    close_channel(one)
    two = open_channel(redis_url, consumer_name="me")
    message: Any = two.basic_get("q")
    assert message.payload == "kept"
    assert message.delivery_info["redelivered"]
    close_channel(two)


def test_recover_makes_unacked_messages_ready_again(channel: Channel) -> None:
    put(channel, "q", 1, 2)
    assert channel.basic_get("q") is not None
    channel.basic_recover(requeue=True)
    payloads = set()
    for _ in range(2):
        message: Any = channel.basic_get("q")
        payloads.add(message.payload)
    assert payloads == {1, 2}


def test_a_delayed_message_comes_when_it_is_due(channel: Channel) -> None:
    put(channel, "q", "later", headers={"x-delay": 200})
    assert channel.stats(["q"])["q"][:3] == (0, 0, 1)
    assert channel.basic_get("q") is None
    messages: list[Any] = []
    for _ in range(100):
        messages = channel.get_many(lambda queue: 5, 5)
        if messages:
            break
        channel.wait(5, unless=lambda: False)
    assert [message.payload for message in messages] == ["later"]
    assert channel.stats(["q"])["q"][:3] == (1, 1, 0)


def test_purge_takes_what_is_ready_and_leaves_what_is_delivered(channel: Channel) -> None:
    put(channel, "q", 1, 2, 3)
    put(channel, "q", 4, headers={"x-delay": 60_000})
    message: Any = channel.basic_get("q")
    assert channel.queue_purge("q") == 3
    assert channel.stats(["q"])["q"][:3] == (1, 1, 0)
    message.ack()
    assert channel.queues() == []


def test_a_consumer_is_forgotten_only_when_nothing_is_pending(
    channel: Channel, redis_server: RedisServer
) -> None:
    put(channel, "q", 1, 2)
    stream = channel.keys.stream("q")
    with redis_server.client() as client:
        client.xreadgroup("g", "busy", {stream: ">"}, count=1)
        client.xgroup_createconsumer(stream, "g", "empty")
        channel.wire.open()
        gone = channel.wire.one(*channel.wire.script("forget_consumers", [stream], "g", "me", -1))
        left = {row["name"] for row in client.xinfo_consumers(stream, "g")}
    assert gone == 1
    assert left == {b"busy"}


def test_a_dead_consumers_message_behind_many_living_ones_is_found(redis_url: str) -> None:
    mine = open_channel(redis_url, consumer_name="me", claim_idle=0.3)
    dead = open_channel(redis_url, consumer_name="dead", claim_idle=0.3)
    put(mine, "q", *range(60))
    held = mine.get_many(lambda queue: 50, 50)
    assert len(held) == 50
    assert len(dead.get_many(lambda queue: 1, 1)) == 1
    close_channel(dead)
    found: list[Any] = []
    for _ in range(100):
        found += mine.get_many(lambda queue: 1, 1)
        if any(message.delivery_info["redelivered"] for message in found):
            break
        mine.wait(1, unless=lambda: False)
    [claimed] = [message for message in found if message.delivery_info["redelivered"]]
    assert claimed.payload == 50
    close_channel(mine)


def fail_after(channel: Any, command: str, monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    """Makes the round trip fail that follows the first one whose `command` brought entries; the list says
    that it has."""
    run = channel.wire.run
    failed: list[str] = []
    armed = False

    def broken(commands: Any, **options: Any) -> Any:
        nonlocal armed
        if armed and not failed:
            failed.append(commands[0][0])
            if isinstance(error, redis.ConnectionError):
                channel.wire.close()
            raise error
        replies = run(commands, **options)
        armed = armed or any(
            sent[0] == command and isinstance(reply, list) and bool(reply[1])
            for sent, reply in zip(commands, replies, strict=True)
        )
        return replies

    monkeypatch.setattr(channel.wire, "run", broken)
    return failed


def let_die(client: Any, stream: str, count: int) -> None:
    """Delivers `count` messages to a consumer that was last heard of a minute ago."""
    [(_, entries)] = client.xreadgroup("g", "dead", {stream: ">"}, count=count)
    client.xclaim(stream, "g", "dead", 0, [tag for tag, _ in entries], idle=60_000)


@pytest.mark.parametrize("error", [redis.ConnectionError("lost"), redis.ResponseError("OOM")])
def test_what_was_claimed_when_the_next_step_failed_is_delivered_after_all(
    channel: Channel, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    put(channel, "q", "kept")
    with redis_server.client() as client:
        let_die(client, channel.keys.stream("q"), 1)
    failed = fail_after(channel, "XAUTOCLAIM", monkeypatch, error)
    with pytest.raises(type(error)):
        channel.get_many(lambda queue: 5, 5)
    assert failed
    messages: list[Any] = channel.get_many(lambda queue: 5, 5)
    assert [message.payload for message in messages] == ["kept"]
    channel.ack_many([message.delivery_tag for message in messages])
    assert channel.reader.held == 0
    assert channel.queues() == []


def test_what_a_failed_step_found_does_not_come_while_it_has_no_room(
    channel: Channel, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(channel, "q", "kept")
    with redis_server.client() as client:
        let_die(client, channel.keys.stream("q"), 1)
    fail_after(channel, "XAUTOCLAIM", monkeypatch, redis.ConnectionError("lost"))
    with pytest.raises(redis.ConnectionError):
        channel.get_many(lambda queue: 1, 1)
    assert channel.reader.held == 0
    assert channel.get_many(lambda queue: 0, 1) == []
    assert len(channel.get_many(lambda queue: 1, 1)) == 1


def test_no_more_come_than_there_is_room_when_a_dead_ones_are_claimed(
    channel: Channel, redis_server: RedisServer
) -> None:
    put(channel, "q", *range(4))
    with redis_server.client() as client:
        let_die(client, channel.keys.stream("q"), 2)
    first = channel.get_many(lambda queue: 1, 1)
    assert [message.delivery_info["redelivered"] for message in first] == [True]
    assert len(channel.get_many(lambda queue: 1, 1)) == 1


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"b": b"body", "m": b"{not json"}, b"body"),
        ({"b": b"body", "m": b"[1]", "t": b"1"}, b"body"),
        ({"b": b"body", "m": b"[null,null,[1],0,0,0]", "t": b"1"}, b"body"),
        ({"b": b"body", "m": b"[null,null,0,0,0,0]", "t": b"\xff"}, b"body"),
        ({"b": b"body", "m": b"[null,null,0,0,0,0]", "t": b"yesterday"}, b"body"),
        ({"b": b"body"}, b"body"),
        ({"other": b"kept too"}, b"kept too"),
    ],
)
def test_a_malformed_entry_is_delivered_as_it_lies_there_and_holds_up_no_other(
    channel: Channel, redis_server: RedisServer, fields: Any, body: bytes
) -> None:
    put(channel, "q", "before")
    with redis_server.client() as client:
        client.xadd(channel.keys.stream("q"), fields)
    put(channel, "q", "after")
    messages: list[Any] = channel.get_many(lambda queue: 5, 5)
    assert [messages[0].payload, messages[2].payload] == ["before", "after"]
    assert body in messages[1].body
    assert "x-malformed" in messages[1].headers
    channel.ack_many([message.delivery_tag for message in messages])
    assert channel.queues() == []


def test_a_flushed_script_cache_is_filled_again(channel: Channel, redis_server: RedisServer) -> None:
    put(channel, "q", 1)
    with redis_server.client() as client:
        client.script_flush()
    put(channel, "q", 2)
    assert channel._size("q") == 2


def test_connection_loss_is_a_kombu_connection_error_and_mends(own_redis: RedisServer) -> None:
    with connect(own_redis.url) as made:
        connection: Any = made
        channel = connection.channel()
        put(channel, "q", 1)
        own_redis.kill()
        with pytest.raises(connection.connection_errors):
            put(channel, "q", 2)
        own_redis.start()
        put(channel, "q", 3)
        assert channel._size("q") == 2


def test_every_key_of_a_queue_has_one_hash_tag(channel: Channel) -> None:
    tags = {key[key.index("{") : key.index("}") + 1] for key in channel.keys.of_queue("some queue")}
    assert len(tags) == 1


def test_an_url_without_plus_works_in_kombus_own_constructor(redis_url: str, own_redis: RedisServer) -> None:
    for url in (redis_url.replace("redis://", "streams://"), f"streams+socket://{own_redis.socket}"):
        with Connection(url) as made:
            connection: Any = made
            put(connection.default_channel, "q", "hello")
            assert connection.default_channel.basic_get("q").payload == "hello"


def test_a_password_is_not_shown(redis_url: str) -> None:
    shown = connect("redis+streams://user:secret@host:1/0").as_uri()
    assert "secret" not in shown
    assert "host:1" in shown


def test_the_package_imports_nothing_else_of_the_project() -> None:
    code = (
        "import sys, lambent.scheduler.transport.streams;"
        "print([m for m in sys.modules if m.startswith('lambent.')"
        " and m != 'lambent.scheduler' and not m.startswith('lambent.scheduler.transport')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
