# mypy: allow-untyped-calls
"""What kombu's users may expect of any transport, said in our words: exchanges, declarations, acknowledgements,
simple queues, channels side by side, errors, bodies. Priorities are not kept: a stream has one order."""

import threading
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.messaging import Producer
from kombu.mixins import ConsumerMixin
from redis_groups import until
from support import RedisServer

from lambent.scheduler.transport.streams import Transport, connect

WAIT = 20


@pytest.fixture
def connection(redis_url: str) -> Iterator[Any]:
    with connect(redis_url, shards=3, claim_idle=3600.0) as made:
        yield made


@pytest.fixture
def other(redis_url: str) -> Iterator[Any]:
    """A second connection, as of another process."""
    with connect(redis_url, claim_idle=3600.0) as made:
        yield made


def put(connection: Any, *bodies: Any, queue: str = "q", **options: Any) -> None:
    for body in bodies:
        connection.Producer().publish(body, routing_key=queue, declare=[Queue(queue)], **options)


def received(connection: Any, count: int) -> None:
    for _ in range(count):
        connection.drain_events(timeout=WAIT)


# Exchanges and declarations


@pytest.mark.parametrize(
    ("kind", "key", "reached"),
    [
        ("direct", "a.b", {"exact"}),
        ("direct", "a.c", set()),
        ("topic", "a.b", {"exact", "star", "hash"}),
        ("topic", "a.b.c", {"hash"}),
        ("fanout", "anything", {"exact", "star", "hash"}),
    ],
)
def test_an_exchange_of_each_type_reaches_the_queues_that_are_bound_so(
    connection: Any, kind: str, key: str, reached: set[str]
) -> None:
    exchange = Exchange("x", type=kind)
    queues = [
        Queue("exact", exchange, routing_key="a.b"),
        Queue("star", exchange, routing_key="a.*"),
        Queue("hash", exchange, routing_key="a.#"),
    ]
    got: set[str] = set()

    def on_message(message: Any) -> None:
        got.add(message.body.decode())
        message.ack()

    for queue in queues:
        queue(connection.default_channel).declare()
    connection.Producer().publish("m", exchange=exchange, routing_key=key)
    sizes = {queue.name for queue in queues if connection.default_channel._size(queue.name)}
    assert sizes == reached


def test_an_unbound_queue_gets_nothing_more(connection: Any, other: Any) -> None:
    exchange = Exchange("x", type="direct")
    bound = Queue("q", exchange, routing_key="k")(connection.default_channel)
    bound.declare()
    bound.unbind_from(exchange, routing_key="k")
    other.Producer().publish("m", exchange=exchange, routing_key="k", declare=[exchange])
    assert connection.default_channel._size("q") == 0


def test_a_deleted_exchange_reaches_nobody_and_a_full_queue_stays(connection: Any, other: Any) -> None:
    exchange = Exchange("x", type="direct")
    Queue("q", exchange, routing_key="k")(connection.default_channel).declare()
    connection.Producer().publish("kept", exchange=exchange, routing_key="k")
    exchange(connection.default_channel).delete()
    other.Producer().publish("lost", exchange=exchange, routing_key="k", declare=[exchange])
    assert other.default_channel.basic_get("q", no_ack=True).payload == "kept"
    assert other.default_channel.basic_get("q") is None


def test_a_passive_declaration_of_a_queue_that_is_not_there_is_not_found(connection: Any) -> None:
    channel = connection.default_channel
    with pytest.raises(connection.channel_errors, match="NOT_FOUND"):
        channel.queue_declare("nowhere", passive=True)
    channel.queue_declare("somewhere")
    assert channel.queue_declare("somewhere", passive=True).message_count == 0


def test_a_declaration_tells_how_many_wait_and_changes_nothing(connection: Any) -> None:
    put(connection, 1, 2)
    assert connection.default_channel.queue_declare("q").message_count == 2
    assert connection.default_channel.queue_declare("q").message_count == 2


def test_deleting_if_empty_or_unused_keeps_a_queue_that_is_neither(connection: Any, other: Any) -> None:
    channel = connection.default_channel
    put(connection, 1)
    channel.queue_delete("q", if_empty=True)
    assert channel._has_queue("q")
    message = other.default_channel.basic_get("q")
    channel.queue_delete("q", if_unused=True)
    assert channel._has_queue("q")
    message.ack()
    consumer = connection.Consumer(Queue("q"))
    consumer.consume()
    channel.queue_delete("q", if_unused=True)
    assert channel._has_queue("q")
    consumer.cancel()
    channel.queue_delete("q", if_unused=True, if_empty=True)
    assert not channel._has_queue("q")


def test_a_queue_that_another_process_deletes_takes_its_bindings_along(connection: Any, other: Any) -> None:
    exchange = Exchange("x", type="direct")
    Queue("q", exchange, routing_key="k")(connection.default_channel).declare()
    other.default_channel.queue_delete("q")
    connection.Producer().publish("m", exchange=exchange, routing_key="k")
    assert not connection.default_channel._has_queue("q")


def test_purge_tells_how_many(connection: Any) -> None:
    put(connection, 1, 2, 3)
    assert connection.default_channel.queue_purge("q") == 3
    assert connection.default_channel.queue_purge("q") == 0
    assert connection.default_channel.basic_get("q") is None


# Consuming and ending


def test_messages_of_a_queue_come_in_order_whatever_their_priority(connection: Any) -> None:
    for number in range(5):
        put(connection, number, priority=number)
    got = [connection.default_channel.basic_get("q") for _ in range(5)]
    assert [message.payload for message in got] == [0, 1, 2, 3, 4]
    assert [message.properties.get("priority", 0) for message in got] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("get", [True, False])
def test_what_needs_no_acknowledgement_is_gone_once_it_is_delivered(connection: Any, get: bool) -> None:
    put(connection, 1)
    if get:
        assert connection.default_channel.basic_get("q", no_ack=True).payload == 1
    else:
        got: list[Any] = []
        with connection.Consumer(Queue("q"), no_ack=True, on_message=got.append):
            received(connection, 1)
        assert got[0].payload == 1
    assert connection.default_channel.stats(["q"])["q"][:2] == (0, 0)


def test_a_requeued_message_is_marked_as_redelivered(connection: Any) -> None:
    put(connection, 1)
    first = connection.default_channel.basic_get("q")
    assert not first.delivery_info["redelivered"]
    first.reject(requeue=True)
    for _ in range(2):
        again = connection.default_channel.basic_get("q")
        assert again.payload == 1 and again.delivery_info["redelivered"]
        again.requeue()


def test_a_rejected_message_is_dropped(connection: Any) -> None:
    put(connection, 1)
    connection.default_channel.basic_get("q").reject()
    assert connection.default_channel.basic_get("q") is None


def test_recover_brings_back_all_that_is_not_acknowledged(connection: Any) -> None:
    put(connection, 1, 2, 3)
    channel = connection.default_channel
    channel.basic_get("q").ack()
    channel.basic_get("q")
    channel.basic_recover(requeue=True)
    assert sorted(channel.basic_get("q").payload for _ in range(2)) == [2, 3]


def test_what_a_closed_channel_had_comes_to_another_at_once(connection: Any, other: Any) -> None:
    put(connection, *range(5))
    channel = connection.channel()
    got: list[Any] = []
    consumer = connection.Consumer(Queue("q"), channel=channel, on_message=got.append, prefetch_count=3)
    consumer.consume()
    received(connection, 3)  # these are delivered, and no more are read
    got[0].ack()
    channel.close()
    payloads = sorted(other.default_channel.basic_get("q").payload for _ in range(4))
    assert payloads == [1, 2, 3, 4]
    assert other.default_channel.basic_get("q") is None


def test_what_was_read_ahead_for_a_cancelled_consumer_is_given_back(connection: Any, other: Any) -> None:
    put(connection, 1, 2, 3)
    got: list[Any] = []
    with connection.Consumer(Queue("q"), on_message=got.append):
        received(connection, 1)
    assert len(got) == 1
    assert sorted(other.default_channel.basic_get("q").payload for _ in range(2)) == [2, 3]


def test_prefetch_bounds_each_channel(connection: Any) -> None:
    put(connection, *range(6))
    got: list[Any] = []
    for _ in range(2):
        channel = connection.channel()
        connection.Consumer(Queue("q"), channel=channel, on_message=got.append, prefetch_count=2).consume()
    received(connection, 4)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    got[0].ack()
    received(connection, 1)
    assert sorted(message.payload for message in got) == [0, 1, 2, 3, 4]


def test_an_acknowledgement_of_another_thread_makes_room_at_once(connection: Any) -> None:
    put(connection, 1, 2)
    got: list[Any] = []
    connection.Consumer(Queue("q"), on_message=got.append, prefetch_count=1).consume()
    received(connection, 1)
    connection.transport.polling_interval = 3600.0
    acknowledging = threading.Thread(target=got[0].ack)
    acknowledging.start()
    connection.drain_events(timeout=3600)
    acknowledging.join()
    assert [message.payload for message in got] == [1, 2]


def test_another_thread_acknowledges_and_publishes_while_one_waits(connection: Any) -> None:
    put(connection, 1)
    got: list[Any] = []
    connection.Consumer(Queue("q"), on_message=got.append).consume()
    received(connection, 1)
    channel = connection.default_channel

    def work() -> None:
        until("the wait", channel._reading.locked)
        got[0].ack()
        channel.basic_publish(channel.prepare_message("2"), exchange="", routing_key="q")

    working = threading.Thread(target=work)
    working.start()
    received(connection, 1)
    working.join()
    assert len(got) == 2
    assert channel.stats(["q"])["q"][:2] == (1, 1)


def test_channels_of_one_connection_take_turns_and_each_gets_its_own(connection: Any) -> None:
    got: dict[str, list[Any]] = {"a": [], "b": [], "c": []}
    for name, messages in got.items():
        channel = connection.channel()
        connection.Consumer(Queue(name), channel=channel, on_message=messages.append).consume()
    for number in range(5):
        for name in got:
            put(connection, number, queue=name)
            received(connection, 1)
    assert {name: [message.payload for message in messages] for name, messages in got.items()} == dict.fromkeys(
        got, [0, 1, 2, 3, 4]
    )


def test_several_channels_hear_at_once_of_what_others_publish(connection: Any, other: Any) -> None:
    got: list[Any] = []
    for name in ("a", "b", "c"):
        channel = connection.channel()
        connection.Consumer(Queue(name), channel=channel, on_message=got.append).consume()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    for name in ("a", "b", "c"):
        waiting = threading.Thread(target=connection.drain_events, kwargs={"timeout": 3600})
        waiting.start()
        until("the wait", lambda: any(channel._reading.locked() for channel in connection.transport.channels))
        put(other, name, queue=name)
        waiting.join(WAIT)
        assert not waiting.is_alive()
    assert [message.payload for message in got] == ["a", "b", "c"]


def test_two_consumers_of_one_queue_on_different_channels_share_it(connection: Any) -> None:
    got: list[list[Any]] = [[], []]
    for messages in got:
        channel = connection.channel()
        connection.Consumer(Queue("q"), channel=channel, on_message=messages.append, prefetch_count=3).consume()
    put(connection, *range(6))
    received(connection, 6)
    assert [len(messages) for messages in got] == [3, 3]
    for messages in got:
        for message in messages:
            message.ack()
    assert connection.default_channel.queues() == []


def test_a_drain_without_messages_or_consumers_times_out(connection: Any) -> None:
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    connection.Consumer(Queue("q")).consume()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)


# Simple queues


@pytest.mark.parametrize("kind", ["SimpleQueue", "SimpleBuffer"])
def test_a_simple_queue_puts_gets_counts_and_clears(connection: Any, kind: str) -> None:
    with getattr(connection, kind)("simple") as queue:
        with pytest.raises(Empty):
            queue.get_nowait()
        for number in range(4):
            queue.put({"n": number}, headers={"h": number})
        assert len(queue) == 4
        message = queue.get(timeout=WAIT)
        assert (message.payload, message.headers["h"]) == ({"n": 0}, 0)
        if kind == "SimpleQueue":
            message.ack()
        assert queue.get_nowait().payload == {"n": 1}
        queue.clear()
        queue.put("last")
        got = [queue.get(timeout=WAIT).payload]
        while got[-1] != "last":  # what was read ahead before the purge still comes
            got.append(queue.get(timeout=WAIT).payload)


def test_a_simple_buffer_keeps_nothing_pending(connection: Any) -> None:
    with connection.SimpleBuffer("simple") as queue:
        queue.put(1)
        assert queue.get(timeout=WAIT).payload == 1
        assert connection.default_channel.stats(["simple"])["simple"][:2] == (0, 0)


# Bodies


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"a": [1, "ü", None]}, {"serializer": "json"}),
        ({"a": {1, 2}}, {"serializer": "pickle"}),
        ("text ü", {}),
        (b"\x00\xff" * 100, {"content_type": "application/data", "content_encoding": "binary"}),
        ({"a": "x" * 1000}, {"serializer": "json", "compression": "gzip"}),
        ({"a": "x" * 1000}, {"serializer": "json", "compression": "bzip2"}),
        (None, {"serializer": "json"}),
    ],
)
def test_a_body_comes_as_it_was_published(connection: Any, body: Any, options: dict[str, Any]) -> None:
    put(connection, body, **options)
    message = connection.default_channel.basic_get("q", accept=["json", "pickle"])
    message.accept = {"application/json", "application/x-python-serialize", "text/plain"}
    assert (message.body if options.get("content_encoding") == "binary" else message.payload) == body


def test_properties_and_headers_come_as_they_were_published(connection: Any) -> None:
    put(connection, 1, headers={"h": [1]}, correlation_id="c", reply_to="r", expiration=60)
    message = connection.default_channel.basic_get("q")
    assert message.headers == {"h": [1]}
    assert (message.properties["correlation_id"], message.properties["reply_to"]) == ("c", "r")


# Connections


def test_it_says_what_it_can(connection: Any) -> None:
    assert not connection.supports_heartbeats
    assert not connection.is_evented
    assert connection.supports_exchange_type("fanout")
    assert connection.connected or connection.connect()
    assert connection.transport.driver_name == "redis-streams"
    assert connection.heartbeat_check() is None


def test_a_closed_connection_leaves_nothing_open(redis_url: str, redis_server: RedisServer) -> None:
    def clients() -> int:
        with redis_server.client() as client:
            return int(client.info("clients")["connected_clients"])

    before = clients()
    made: Any = connect(redis_url)
    for _ in range(3):
        made.channel().basic_get("q")
    made.release()
    made.release()
    until("the end of its connections", lambda: clients() == before)


def test_publishing_with_retry_outlives_a_restart(own_redis: RedisServer) -> None:
    with connect(own_redis.url) as made:
        connection: Any = made
        producer = connection.Producer()
        producer.publish(1, routing_key="q")
        own_redis.kill()
        with pytest.raises(connection.connection_errors + (OperationalError,)):
            producer.publish(2, routing_key="q")
        starting = threading.Thread(target=own_redis.start)

        def on_error(error: Exception, interval: float) -> None:
            if starting.ident is None:
                starting.start()

        policy = {"interval_start": 0, "interval_step": 0.05, "interval_max": 0.2, "errback": on_error}
        producer.publish(3, routing_key="q", retry=True, retry_policy=policy)
        starting.join()
        channel = connection.default_channel
        assert [channel.basic_get("q").payload for _ in range(2)] == [1, 3]


def test_ensure_and_autoretry_connect_again(own_redis: RedisServer) -> None:
    with connect(own_redis.url) as made:
        connection: Any = made
        size: Callable[..., Any] = connection.autoretry(
            lambda channel=None: channel.queue_declare("q").message_count, interval_start=0, interval_max=0.2
        )
        assert size()[0] == 0
        own_redis.restart()
        assert size()[0] == 0
        own_redis.restart()
        producer = Producer(connection)
        ensured = connection.ensure(producer, producer.publish, interval_start=0, interval_max=0.2)
        ensured("m", routing_key="q")
        assert size()[0] == 1


class Worker(ConsumerMixin):
    """Collects what comes, until `count` are there."""

    def __init__(self, connection: Any, count: int) -> None:
        self.connection = connection
        self.got: list[Any] = []
        self.count = count
        self.ready = threading.Event()

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        return [consumer([Queue("q")], on_message=self.on_message)]

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
        self.ready.set()

    def on_message(self, message: Any) -> None:
        self.got.append(message.payload)
        message.ack()
        self.should_stop = len(set(self.got)) >= self.count


def test_a_consumer_mixin_outlives_restarts(own_redis: RedisServer) -> None:
    with connect(own_redis.url, claim_idle=1.0) as working, connect(own_redis.url) as putting:
        worker = Worker(working, 3)
        thread = threading.Thread(target=worker.run)
        thread.start()
        for number in range(3):
            assert worker.ready.wait(WAIT)
            worker.ready.clear()
            own_redis.restart()
            policy = {"interval_start": 0, "interval_max": 0.2}
            connection: Any = putting
            connection.Producer().publish(number, routing_key="q", retry=True, retry_policy=policy)
        thread.join(60)
        assert not thread.is_alive()
    assert set(worker.got) == {0, 1, 2}


@pytest.mark.parametrize(
    "url",
    [
        "redis+streams://user:secret@host:1/0",
        "rediss://:secret@host:1/0",
        "redis+cluster://user:secret@host:1,host2:2/",
        "sentinel://user:secret@host:1;sentinel://user:secret@host2:2/0?master_name=m",
        "redis://host:1/0?password=secret",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    made: Any = connect(url)
    for shown in (made.as_uri(), repr(made), str(made.info().get("hostname") and made.as_uri())):
        assert "secret" not in shown
        assert "host" in shown
    assert "secret" in made.as_uri(include_password=True)


def test_the_uri_that_is_shown_is_one_that_kombu_takes() -> None:
    for url in ("streams://host:1/0", "redis+cluster://host:1,host2:2/", "sentinel://host:1/name/3"):
        shown = connect(url).as_uri()
        again: Any = Connection(shown)
        assert again.transport_cls is not None and issubclass(again.get_transport_cls(), Transport)
        assert again.as_uri() == shown
