# mypy: allow-untyped-calls
"""The transport over sentinels: who is the master is asked anew, and nothing that was confirmed is lost."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu.connection import Connection
from kombu.messaging import Producer
from redis_groups import RedisSet, until
from support import RedisServer, free_port, redis_program
from transport_load import load

from lambent.scheduler.transport.batch import QueuesNotStored
from lambent.scheduler.transport.streams import Channel, NotStored, close_channel, connect, open_channel
from lambent.scheduler.transport.wire import Wire


@pytest.fixture
def redis_set() -> Iterator[RedisSet]:
    made = RedisSet(redis_program())
    try:
        made.start()
        yield made
    finally:
        made.close()


def put(channel: Any, *bodies: Any) -> None:
    producer: Any = Producer(channel, auto_declare=False)
    for body in bodies:
        producer.publish(body, routing_key="q")


def test_every_form_of_the_url_finds_the_master(redis_set: RedisSet) -> None:
    dead, alive = free_port(), redis_set.port
    forms: list[tuple[str, dict[str, Any]]] = [
        (f"sentinel://127.0.0.1:{dead};sentinel://127.0.0.1:{alive}/0", {"master_name": "mymaster"}),
        (f"sentinel://127.0.0.1:{dead},127.0.0.1:{alive}/?master_name=mymaster", {}),
        (f"redis+streams+sentinel://127.0.0.1:{alive}/mymaster/0", {}),
        (f"streams+sentinel://127.0.0.1:{alive}/mymaster", {}),
    ]
    for number, (url, options) in enumerate(forms):
        with connect(url, **options) as made:
            connection: Any = made
            put(connection.default_channel, number)
    with Connection(  # kombu's own constructor splits at ";"
        f"streams+sentinel://127.0.0.1:{dead};streams+sentinel://127.0.0.1:{alive}/0",
        transport_options={"master_name": "mymaster"},
    ) as made:
        channel: Any = made.default_channel
        assert [channel.basic_get("q").payload for _ in forms] == [0, 1, 2, 3]


def test_a_master_that_the_sentinels_do_not_know_is_a_connection_error(redis_set: RedisSet) -> None:
    with connect(f"sentinel://127.0.0.1:{redis_set.port}/nobody") as made:
        connection: Any = made
        with pytest.raises(connection.connection_errors, match="nobody"):
            connection.channel()


def test_an_ordered_failover_under_load_loses_nothing(redis_set: RedisSet) -> None:
    with load(redis_set.url, replicas=1) as work:
        work.await_confirmed(200)
        redis_set.fail_over()
        work.await_confirmed(400)
        work.finish()


def test_a_master_killed_under_load_loses_nothing_that_was_confirmed(redis_set: RedisSet) -> None:
    with load(redis_set.url, replicas=1) as work:
        work.await_confirmed(200)
        victim = redis_set.master()
        victim.kill()
        until("the failover", lambda: redis_set.master() is not victim)
        victim.start()
        redis_set.rejoin()  # without a replica nothing is confirmed
        work.await_confirmed(400)
        assert work.failures
        work.finish()


def test_a_master_that_hangs_is_left(redis_set: RedisSet) -> None:
    with load(redis_set.url) as work:
        work.await_confirmed(200)
        victim = redis_set.master()
        victim.pause()
        try:
            until("the failover", lambda: redis_set.master() is not victim)
            work.await_confirmed(200)
        finally:
            victim.resume()


class Pointed(Wire):
    """A wire whose sentinels say what the test says."""

    server: RedisServer

    def _find(self) -> str:
        return self.server.url


@pytest.fixture
def pointed(redis_set: RedisSet) -> Iterator[Pointed]:
    wire = Pointed(redis_set.url, timeout=5)
    wire.server = redis_set.servers[0]
    yield wire
    wire.dispose()


def swap(pair: RedisSet) -> None:
    """Makes the replica the master and the other way round, with all connections kept."""
    first, second = pair.servers
    with second.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    pair.follow(first, second)


def test_what_a_demoted_master_refuses_is_sent_to_the_new_one(redis_set: RedisSet, pointed: Pointed) -> None:
    assert pointed.run([("SET", "a", 1), ("GET", "a")]) == [b"OK", b"1"]
    swap(redis_set)
    before = pointed.generation
    pointed.server = redis_set.servers[1]
    assert pointed.run([("INCR", "a"), ("INCR", "a")]) == [2, 3]
    assert pointed.generation == before + 1


def test_a_demoted_master_without_successor_refuses_and_nothing_is_uncertain(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
    wire = Wire(own_redis.url)
    assert isinstance(wire.run([("INCR", "a")])[0], redis.ReadOnlyError)
    wire.dispose()


def test_a_wait_at_a_demoted_master_ends(redis_set: RedisSet) -> None:
    channel = open_channel(redis_set.url)
    channel.get_many(lambda queue: 1, 1)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            channel.wait(60, unless=lambda: False)
        except redis.ConnectionError as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    with redis_set.servers[0].client() as client:
        until("the blocked read", lambda: client.info("clients")["blocked_clients"])
    swap(redis_set)
    waiting.join(30)
    assert ended
    close_channel(channel)


def test_a_wait_is_interrupted_after_a_failover(redis_set: RedisSet) -> None:
    channel = open_channel(redis_set.url, claim_idle=3600.0)
    for _ in range(2):
        assert channel.get_many(lambda queue: 1, 1) == []
        waiting = threading.Thread(target=lambda: channel.wait(60, unless=lambda: False))
        waiting.start()
        until("the wait", lambda: channel.waiting)
        channel.interrupt()
        waiting.join(30)
        assert not waiting.is_alive()
        redis_set.fail_over()
        until("a connection to the new master", lambda: written(channel))
    close_channel(channel)


def written(channel: Channel) -> bool:
    try:
        return channel.purge("nothing") == 0
    except redis.ConnectionError:
        return False


def test_an_idle_control_connection_that_was_closed_interrupts_all_the_same(own_redis: RedisServer) -> None:
    channel = open_channel(own_redis.url, claim_idle=3600.0)
    for _ in range(2):
        channel.get_many(lambda queue: 1, 1)
        waiting = threading.Thread(target=lambda: channel.wait(60, unless=lambda: False))
        waiting.start()
        until("the wait", lambda: channel.waiting)
        channel.interrupt()
        waiting.join(30)
        assert not waiting.is_alive()
        with own_redis.client() as client:
            for row in client.client_list():
                if int(row["id"]) not in (channel.wire.client_id, client.client_id()):  # type: ignore[union-attr]
                    client.client_kill_filter(_id=row["id"])
    close_channel(channel)


@pytest.mark.parametrize("publish", [put, lambda channel, body: batch(channel, body)])
def test_too_few_replicas_is_not_stored_and_uncertain(
    own_redis: RedisServer, publish: Callable[[Any, Any], None]
) -> None:
    channel = open_channel(own_redis.url, replicas=1, socket_timeout=0.3)
    with pytest.raises(NotStored, match="0 of 1 replicas"):
        publish(channel, "body")
    assert channel.stats(["q"])["q"][0] == 1  # it may be there all the same
    close_channel(channel)


def batch(channel: Any, body: Any) -> None:
    producer: Any = Producer(channel, auto_declare=False)
    with producer.batch():
        producer.publish(body, routing_key="q")


def test_a_refusal_is_told_as_one_although_replicas_are_missing(own_redis: RedisServer) -> None:
    channel = open_channel(own_redis.url, replicas=1, socket_timeout=0.3, max_length=1)
    with pytest.raises(NotStored):
        batch(channel, 1)
    with pytest.raises(QueuesNotStored, match="FULL"):
        batch(channel, 2)
    close_channel(channel)


def test_a_flushed_script_cache_does_not_lose_the_confirmation(own_redis: RedisServer) -> None:
    channel = open_channel(own_redis.url, replicas=1, socket_timeout=0.3)
    with own_redis.client() as client:
        client.script_flush()
    with pytest.raises(NotStored):
        put(channel, 1)
    close_channel(channel)
