# mypy: allow-untyped-calls
"""The transport on a cluster of real nodes whose shards lie on different ones."""

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.messaging import Producer
from redis_groups import RedisNodes, until
from support import redis_program, require
from transport_load import load

from lambent.scheduler.transport.batch import QueuesNotStored
from lambent.scheduler.transport.streams import Channel, Replacement, close_channel, connect, open_channel
from lambent.scheduler.transport.wire import SERVER_ERRORS

SHARDS = 8
QUEUES = [f"q{i}" for i in range(24)]


@pytest.fixture
def channel(redis_nodes_url: str) -> Iterator[Channel]:
    made = open_channel(redis_nodes_url, shards=SHARDS, consumer_name="me")
    yield made
    close_channel(made)


@pytest.fixture
def make_nodes() -> Iterator[Callable[..., RedisNodes]]:
    """Clusters of the test's own."""
    binary = redis_program()
    made: list[RedisNodes] = []

    def make(**options: int) -> RedisNodes:
        nodes = RedisNodes(binary, **options)
        made.append(nodes)
        nodes.start()
        return nodes

    yield make
    for nodes in made:
        nodes.close()


def put(channel: Any, *rows: tuple[str, Any], headers: dict[str, Any] | None = None) -> None:
    producer: Any = Producer(channel, auto_declare=False)
    with producer.batch():
        for queue, body in rows:
            producer.publish(body, routing_key=queue, headers=headers)


def put_once(channel: Channel, queue: str, when: threading.Event) -> None:
    when.wait(20)
    put(channel, (queue, queue))


def take(channel: Channel, count: int) -> list[Any]:
    """Waits for `count` messages."""
    found: list[Any] = []
    while len(found) < count:
        more = channel.get_many(lambda queue: 100, 100)
        found += more
        if not more:
            channel.wait(20, unless=lambda: False)
    return found


def test_queues_of_every_node_are_published_consumed_and_ended(
    channel: Channel, redis_nodes: RedisNodes
) -> None:
    assert len({redis_nodes.owner(channel.keys.stream(queue)).port for queue in QUEUES}) == 3
    put(channel, *((queue, queue) for queue in QUEUES))
    assert channel.queues() == sorted(QUEUES)
    assert [channel.stats(QUEUES)[queue][0] for queue in QUEUES] == [1] * len(QUEUES)
    messages = take(channel, len(QUEUES))
    assert sorted(message.payload for message in messages) == sorted(QUEUES)
    assert channel.ack_many(message.delivery_tag for message in messages) == len(QUEUES)
    assert channel.queues() == []


def test_delayed_ones_of_every_node_come_when_they_are_due(channel: Channel) -> None:
    put(channel, *((queue, queue) for queue in QUEUES), headers={"x-delay": 150})
    assert {numbers[:3] for numbers in channel.stats(QUEUES).values()} == {(0, 0, 1)}
    assert len(channel.peek_delayed("q1", 5)) == 1
    messages = take(channel, len(QUEUES))
    assert sorted(message.payload for message in messages) == sorted(QUEUES)


def test_hastened_requeued_peeked_and_purged(channel: Channel) -> None:
    put(channel, ("q1", 1), headers={"x-delay": 60_000})
    [(name, _, _)] = channel.peek_delayed("q1", 1)
    assert channel.hasten("q1", [name]) == 1
    [message] = take(channel, 1)
    assert [peeked.payload for peeked in channel.peek("q1", 5)] == [1]
    assert channel.requeue_many([message.delivery_tag]) == 1
    put(channel, *((queue, 2) for queue in QUEUES))
    assert [channel.purge(queue) for queue in QUEUES] == [2 if queue == "q1" else 1 for queue in QUEUES]
    assert channel.queues() == []


def test_replacements_stay_in_their_shard_and_are_one_step(channel: Channel) -> None:
    queues = [(f"a{{{i}}}", f"b{{{i}}}") for i in range(12)]
    put(channel, *((one, one) for one, _ in queues))
    messages = {message.delivery_info["routing_key"]: message for message in take(channel, len(queues))}
    body = {"body": b"moved", "content-type": "text/plain", "content-encoding": "utf-8", "headers": {}}
    moves = [
        (messages[one].delivery_tag, [Replacement(two, {**body, "properties": {}})]) for one, two in queues
    ]
    assert channel.replace_many(moves) == [True] * len(queues)
    assert channel.replace_many(moves) == [False] * len(queues)
    assert channel.queues() == sorted(two for _, two in queues)


def test_a_blocked_wait_hears_of_a_message_on_any_node(channel: Channel, redis_nodes_url: str) -> None:
    other = open_channel(redis_nodes_url)
    for queue in QUEUES:
        assert channel.get_many(lambda queue: 1, 1) == []
        blocked = threading.Event()
        publisher = threading.Thread(target=put_once, args=(other, queue, blocked))
        publisher.start()
        found: list[Any] = []
        while not found:
            channel.wait(20, unless=lambda b=blocked: b.set())  # type: ignore[misc]
            found = channel.get_many(lambda queue: 1, 1)
        assert found[0].payload == queue
        channel.ack_many([found[0].delivery_tag])
        publisher.join(20)
    close_channel(other)


@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_a_wait_is_interrupted_and_hears_of_the_next_message(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("redis_url" if kind == "server" else "redis_nodes_url")
    channel = open_channel(url, shards=SHARDS, claim_idle=3600.0)
    put(channel, ("first", 1))
    take(channel, 1)
    for number in range(20):
        ended = threading.Event()

        def wait(ended: threading.Event = ended) -> None:
            channel.wait(60, unless=lambda: False)
            ended.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        until("the wait", lambda: channel.waiting)
        channel.interrupt()
        assert ended.wait(20)
        waiting.join()
        put(channel, (f"q{number}", number))
        [message] = take(channel, 1)
        assert message.payload == number
    close_channel(channel)


def test_kombus_constructor_takes_a_cluster(redis_nodes: RedisNodes, redis_nodes_url: str) -> None:
    nodes = [f"127.0.0.1:{node.port}" for node in redis_nodes.nodes]
    for url in (
        f"streams+cluster://{','.join(nodes)}/",
        ";".join(f"streams+cluster://{node}" for node in nodes),
    ):
        with Connection(url) as made:
            connection: Any = made
            with connection.SimpleQueue("simple") as queue:
                queue.put({"n": 1})
                message = queue.get(timeout=10)
                assert message.payload == {"n": 1}
                message.ack()


def test_one_start_node_of_several_is_enough(redis_nodes: RedisNodes, redis_nodes_url: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = nobody.getsockname()[1]
        url = f"redis+cluster://127.0.0.1:{dead},127.0.0.1:{redis_nodes.nodes[1].port}/"
        with connect(url, shards=SHARDS) as made:
            connection: Any = made
            put(connection.default_channel, *((queue, 1) for queue in QUEUES))
            assert connection.default_channel.queues() == sorted(QUEUES)


def test_no_node_at_all_is_a_connection_error() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(OperationalError, match="no node of the cluster"):
            open_channel(f"redis+cluster://127.0.0.1:{nobody.getsockname()[1]}/")


@pytest.mark.parametrize("how", ["key by key", "at once"])
def test_a_slot_that_moves_while_it_is_used_loses_nothing(
    make_nodes: Callable[..., RedisNodes], how: str
) -> None:
    nodes = make_nodes()
    with load(nodes.url) as work:
        work.await_confirmed(200)
        key = "{streams:0}:notify"
        for _ in range(3):
            origin = nodes.owner(key)
            target = next(node for node in nodes.nodes if node is not origin)
            if how == "key by key":
                nodes.move(key, target)
            else:
                require("CLUSTER MIGRATESLOTS", nodes.move_at_once(key, target), "it needs Valkey 9")
            until("the move", partial(lambda target: nodes.owner(key) is target, target))
            work.await_confirmed(200)
        work.finish()


def test_what_a_moving_slot_refuses_is_stored_once_it_has_moved(
    make_nodes: Callable[..., RedisNodes],
) -> None:
    nodes = make_nodes()
    channel = open_channel(nodes.url, shards=1, socket_timeout=0.3)
    put(channel, ("q", 1), ("q", 2))
    origin = nodes.owner(channel.keys.stream("q"))
    target = next(node for node in nodes.nodes if node is not origin)

    def halfway() -> None:
        # Some of the keys are here and some there: no script can run, and that is no unknown outcome.
        with pytest.raises(QueuesNotStored) as refused:
            put(channel, ("q", 3))
        assert isinstance(refused.value.errors["q"], redis.ResponseError)
        assert [message.payload for message in channel.peek("q", 5)] == [1, 2]  # of one key, which is there

    nodes.move(channel.keys.stream("q"), target, between=halfway)
    put(channel, ("q", 4))
    assert sorted(message.payload for message in take(channel, 3)) == [1, 2, 4]
    close_channel(channel)


def test_a_node_killed_under_load_loses_nothing_that_was_confirmed(
    make_nodes: Callable[..., RedisNodes],
) -> None:
    nodes = make_nodes(replicas=1)
    with load(nodes.url, replicas=1) as work:
        work.await_confirmed(200)
        key = "{streams:0}:notify"
        victim = nodes.owner(key)
        victim.kill()
        until("the failover", lambda: nodes.owner(key) is not victim)
        victim.start()  # comes back as the replica, without which nothing is confirmed
        work.await_confirmed(400)
        assert work.failures
        work.finish()


def test_a_node_without_replica_is_waited_for(make_nodes: Callable[..., RedisNodes]) -> None:
    nodes = make_nodes()
    with load(nodes.url) as work:
        work.await_confirmed(200)
        victim = nodes.owner("{streams:0}:notify")
        victim.kill()
        victim.start()
        nodes.await_ok()
        work.await_confirmed(200)
        work.finish()


def test_an_outage_of_one_node_is_told_by_queue(make_nodes: Callable[..., RedisNodes]) -> None:
    nodes = make_nodes()
    channel = open_channel(nodes.url, shards=SHARDS, socket_timeout=0.3)
    put(channel, *((queue, 1) for queue in QUEUES))
    victim = nodes.owner(channel.keys.stream("q0"))
    theirs = {queue for queue in QUEUES if nodes.owner(channel.keys.stream(queue)) is victim}
    victim.pause()
    try:
        with pytest.raises(QueuesNotStored) as partly:
            put(channel, *((queue, 2) for queue in QUEUES))
        assert set(partly.value.errors) == theirs
        assert all(isinstance(error, SERVER_ERRORS) for error in partly.value.errors.values())
    finally:
        victim.resume()
    close_channel(channel)
