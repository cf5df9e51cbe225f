"""Groups of real servers: a cluster of several nodes, and a master with replicas under a sentinel. Their
failovers are set to take a second or two instead of the usual fifteen."""

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot
from support import RedisServer, free_port

_SLOTS = 16384
_REPLICATION = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def until(what: str, done: Callable[[], object], seconds: float = 30) -> None:
    """Waits until `done()`; a server that does not answer yet is no answer."""
    end = time.monotonic() + seconds
    while True:
        try:
            if done():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class RedisNodes:
    """A cluster of `masters` nodes, each with `replicas` replicas. `close` ends it."""

    def __init__(self, binary: Path, *, masters: int = 3, replicas: int = 0) -> None:
        options = (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
            *("--cluster-replica-validity-factor", "0"),
            *_REPLICATION,
        )
        self.nodes = [
            RedisServer(binary, *options, "--cluster-port", str(free_port()))
            for _ in range(masters * (1 + replicas))
        ]
        self._masters = masters

    @property
    def url(self) -> str:
        """`redis+cluster://…` with every node."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes) + "/"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        first = self.nodes[0]
        with first.client() as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.options[-1])
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        share = _SLOTS // len(masters)
        for i, node in enumerate(masters):
            end = _SLOTS - 1 if i == len(masters) - 1 else (i + 1) * share - 1
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", i * share, end)
        self.await_ok()
        for i, node in enumerate(replicas):
            self._replicate(node, self.id_of(masters[i % len(masters)]))
        for node in replicas:
            until("replication", partial(_linked, node))

    def _replicate(self, node: RedisServer, of: str) -> None:
        with node.client() as client:
            until("a replica", lambda: client.execute_command("CLUSTER", "REPLICATE", of))

    def await_ok(self) -> None:
        """Until every living node sees every slot served, and all nodes."""
        for node in self.nodes:
            if node.pid is not None:
                until("the cluster", partial(self._ok, node))

    def _ok(self, node: RedisServer) -> bool:
        with node.client() as client:
            said: bytes = client.execute_command("CLUSTER", "INFO")
        return b"cluster_state:ok" in said and f"cluster_known_nodes:{len(self.nodes)}\r".encode() in said

    def id_of(self, node: RedisServer) -> str:
        with node.client() as client:
            name: bytes = client.execute_command("CLUSTER", "MYID")
        return name.decode()

    def owner(self, key: str) -> RedisServer:
        """The node that serves a key now."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.pid is None:
                continue
            with node.client() as client:
                for start, end, (_, port, *_), *_ in client.execute_command("CLUSTER", "SLOTS"):
                    if start <= slot <= end:
                        return next(each for each in self.nodes if each.port == port)
        raise AssertionError(f"nobody serves {key}")

    def move(self, key: str, to: RedisServer, *, between: Callable[[], Any] = lambda: None) -> None:
        """Moves a key's slot to another master, key by key as an operator's tool does; `between` is called in
        the middle of it."""
        slot, origin = key_slot(key.encode()), self.owner(key)
        here, there = self.id_of(origin), self.id_of(to)
        with origin.client() as source, to.client() as target:
            target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
            source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
            keys: list[Any] = [key]
            while keys:
                source.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
                if keys == [key]:
                    between()
                keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
            for client in (target, source):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)

    def move_at_once(self, key: str, to: RedisServer) -> bool:
        """The same in one step, where the server can (Valkey 9); whether it can."""
        slot = key_slot(key.encode())
        with self.owner(key).client() as client:
            try:
                client.execute_command(
                    *("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id_of(to))
                )
            except redis.ResponseError as error:
                if "unknown subcommand" in str(error).lower():
                    return False
                raise
        until("the move", lambda: self.owner(key) is to)
        return True

    def flush(self) -> None:
        for node in self.nodes:
            with node.client() as client:
                client.flushall()

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def _linked(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


class RedisSet:
    """A master and a replica, watched by one sentinel as `NAME`. `close` ends them."""

    NAME = "mymaster"

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self.servers = [RedisServer(binary, *_REPLICATION) for _ in range(2)]
        self.port = free_port()
        self._sentinel: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Names a sentinel that is not there first."""
        return f"redis+streams+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.port}/{self.NAME}/0"

    def start(self) -> None:
        first, second = self.servers
        first.start()
        second.start()
        self.follow(second, first)
        file = first.folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {first.folder}\n"
            f"sentinel monitor {self.NAME} 127.0.0.1 {first.port} 1\n"
            f"sentinel down-after-milliseconds {self.NAME} 1000\n"
            f"sentinel failover-timeout {self.NAME} 3000\n"
        )
        with (first.folder / "sentinel.log").open("ab") as log:
            self._sentinel = subprocess.Popen(
                [str(self._binary), str(file), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until("the sentinel's replica", lambda: self._ask("SENTINEL", "REPLICAS", self.NAME))

    def follow(self, replica: RedisServer, master: RedisServer) -> None:
        with replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", master.port)
        until("replication", partial(_linked, replica))

    def _ask(self, *command: Any) -> Any:
        with redis.Redis(port=self.port, socket_timeout=10) as client:
            return client.execute_command(*command)

    def master(self) -> RedisServer:
        """As the sentinel sees it."""
        _, port = self._ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)
        return next(server for server in self.servers if server.port == int(port))

    def fail_over(self) -> None:
        """An orderly failover, asked of the sentinel; returns when the new master is known."""
        old = self.master()
        until("the order", lambda: self._ask("SENTINEL", "FAILOVER", self.NAME))
        until("the failover", lambda: self.master() is not old)
        self.rejoin()

    def rejoin(self) -> None:
        """Makes the one that is not the master its replica, as the sentinel does some seconds later."""
        told: list[RedisServer] = []

        def joined() -> bool:
            master = self.master()
            [other] = [server for server in self.servers if server is not master]
            if told != [master]:  # a busy machine may see another failover
                with other.client() as client:
                    client.execute_command("REPLICAOF", "127.0.0.1", master.port)
                told[:] = [master]
            return _linked(other)

        until("replication", joined)

    def close(self) -> None:
        if self._sentinel is not None:
            self._sentinel.kill()
            self._sentinel.wait(10)
        for server in self.servers:
            server.close()
