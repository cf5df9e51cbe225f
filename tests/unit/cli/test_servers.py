"""What the servers of `lambent up` stand on: the data folder, leftovers, the choice of engine and ports."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambent.cli import leftovers, redis_server, s3_server
from lambent.cli.client import Failed
from lambent.cli.data_folder import DataFolder
from lambent.cli.redis_server import Engine
from lambent.kernel.clock import SystemClock

# A program that says when it is ready, and does what its argument says at SIGTERM.
_STUB = """
import signal, sys
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""


def _program() -> Path:
    """This Python's own binary: the venv's is a link, and a shim would be a script."""
    return Path(os.path.realpath(f"/proc/{os.getpid()}/exe"))


class Stub:
    def __init__(self, folder: Path, kind: str = "polite") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _STUB, kind], cwd=folder, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def identity(self) -> leftovers.ProcessId:
        found = leftovers.identify(self.process.pid)
        assert found is not None
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    made = Stub(tmp_path)
    yield made
    made.close()


class TestDataFolder:
    def test_it_is_private_and_keeps_its_identity(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "data"
        with DataFolder.open(path) as first:
            instance, secret, token = first.instance, first.secret, first.token("webhook")
            assert path.stat().st_mode & 0o777 == 0o700
            assert (path / "secret").stat().st_mode & 0o777 == 0o600
            assert len(secret) == 32
            assert first.folder("redis").stat().st_mode & 0o777 == 0o700
        with DataFolder.open(path) as again:
            assert (again.instance, again.secret, again.token("webhook")) == (instance, secret, token)
            assert again.token("codes") != token

    def test_a_second_server_is_refused_with_the_firsts_pid(self, tmp_path: Path) -> None:
        with DataFolder.open(tmp_path), pytest.raises(Failed, match=f"pid {os.getpid()}.*--data-dir"):
            DataFolder.open(tmp_path)
        DataFolder.open(tmp_path).close()

    def test_a_killed_servers_lock_is_free(self, tmp_path: Path) -> None:
        code = (
            "import os, pathlib, signal, sys; from lambent.cli.data_folder import DataFolder; "
            "held = DataFolder.open(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
        )
        environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, env=environment
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

        DataFolder.open(tmp_path).close()

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        mode = tmp_path.stat().st_mode

        with pytest.raises(Failed, match="not a data folder of Lambent"):
            DataFolder.open(tmp_path)
        assert tmp_path.stat().st_mode == mode

    def test_a_folder_with_only_settings_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "lambent.toml").write_text("port = 9000\n")
        DataFolder.open(tmp_path).close()

    def test_a_newer_schema_is_refused(self, tmp_path: Path) -> None:
        DataFolder.open(tmp_path).close()
        (tmp_path / "lambent.json").write_text('{"schema": 99, "instance": "x"}')

        with pytest.raises(Failed, match="schema 99"):
            DataFolder.open(tmp_path)
        (tmp_path / "lambent.json").write_text('{"schema": 1, "instance": "x"}')
        DataFolder.open(tmp_path).close()

    def test_a_damaged_secret_is_not_replaced_silently(self, tmp_path: Path) -> None:
        DataFolder.open(tmp_path).close()
        (tmp_path / "secret").write_bytes(b"short")

        with pytest.raises(Failed, match="damaged"):
            DataFolder.open(tmp_path)


class TestLeftovers:
    async def _reap(self, folder: Path, seconds: float = 5) -> int:
        return await leftovers.reap(
            folder / "server.pid",
            name="stub",
            program=_program(),
            folder=folder,
            clock=SystemClock(),
            seconds=seconds,
        )

    async def test_the_process_of_the_pidfile_is_ended_in_order(self, tmp_path: Path, stub: Stub) -> None:
        leftovers.write_pidfile(tmp_path / "server.pid", stub.identity())

        assert await self._reap(tmp_path) == 1
        assert stub.process.wait(5) == -signal.SIGTERM
        assert not (tmp_path / "server.pid").exists()

    async def test_one_that_does_not_listen_is_killed(self, tmp_path: Path) -> None:
        stubborn = Stub(tmp_path, "stubborn")
        try:
            leftovers.write_pidfile(tmp_path / "server.pid", stubborn.identity())

            assert await self._reap(tmp_path, seconds=0.2) == 1
            assert stubborn.process.wait(5) == -signal.SIGKILL
        finally:
            stubborn.close()

    async def test_one_whose_pidfile_was_never_written_is_found_by_its_folder(
        self, tmp_path: Path, stub: Stub
    ) -> None:
        assert await self._reap(tmp_path) == 1
        assert stub.process.wait(5) == -signal.SIGTERM

    @pytest.mark.parametrize("lie", [{"start": 1}, {"boot": "another"}, {"program": "/bin/other"}])
    async def test_another_program_with_the_same_pid_is_left_alone(
        self, tmp_path: Path, stub: Stub, lie: dict[str, object]
    ) -> None:
        folder = tmp_path / "empty"
        folder.mkdir()
        noted = {**json.loads(json.dumps(_asdict(stub.identity()))), **lie}
        (folder / "server.pid").write_text(json.dumps(noted))

        assert await self._reap(folder) == 0
        assert stub.process.poll() is None
        assert not (folder / "server.pid").exists()

    @pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"pid": 1}'])
    async def test_a_broken_pidfile_is_no_obstacle(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "server.pid").write_text(text)

        assert await self._reap(tmp_path) == 0

    async def test_a_zombie_is_gone(self, tmp_path: Path) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
        await process.wait()

        assert leftovers.identify(process.pid) is None


def _asdict(identity: leftovers.ProcessId) -> dict[str, object]:
    return {"pid": identity.pid, "start": identity.start, "boot": identity.boot, "program": identity.program}


class TestEngines:
    VALKEY = Engine("valkey", (9, 1, 2), Path("/v"))
    REDIS = Engine("redis", (7, 0, 15), Path("/r"))

    def _choose(self, found: list[Engine], noted: tuple[str, redis_server.Version] | None) -> Engine:
        return redis_server._choose(found, noted, Path("/data/redis"))

    def test_a_new_folder_takes_the_first(self) -> None:
        assert self._choose([self.REDIS, self.VALKEY], None) is self.REDIS

    def test_the_engine_that_wrote_the_folder_opens_it(self) -> None:
        assert self._choose([self.REDIS, self.VALKEY], ("valkey", (9, 1, 2))) is self.VALKEY
        assert self._choose([self.REDIS, self.VALKEY], ("valkey", (8, 0, 0))) is self.VALKEY

    @pytest.mark.parametrize("noted", [("valkey", (9, 2, 0)), ("dragonfly", (1, 0, 0))])
    def test_an_older_or_another_one_is_refused(self, noted: tuple[str, redis_server.Version]) -> None:
        with pytest.raises(Failed, match=f"written by {noted[0]}.*Install"):
            self._choose([self.REDIS, self.VALKEY], noted)

    def test_none_says_what_to_install(self) -> None:
        with pytest.raises(Failed, match="Install valkey-server"):
            self._choose([], None)

    def test_what_is_on_path_but_no_server_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, text in (("valkey-server", "exit 1"), ("redis-server", "echo Redis server v=6.0.16 sha=0:0")):
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

        assert all(engine.program.parent != tmp_path for engine in redis_server.engines())

    def test_a_long_path_gets_a_short_private_socket(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
        long = tmp_path / ("x" * 120)
        made = redis_server._socket(long, f"test{os.getpid()}")
        try:
            assert len(os.fsencode(made)) <= 100
            assert made.parent.stat().st_mode & 0o777 == 0o700
            made.parent.chmod(0o755)
            with pytest.raises(Failed, match="private folder"):
                redis_server._socket(long, f"test{os.getpid()}")
        finally:
            made.parent.rmdir()
        assert redis_server._socket(Path("/data/redis"), "x") == Path("/data/redis/redis.sock")


class TestPorts:
    def test_all_differ_and_the_admins_second_is_where_its_workers_look(self) -> None:
        ports = s3_server.ports_for({}, "127.0.0.1", wanted=0)

        assert len(set(ports.values())) == len(ports) == 10
        assert ports["admin.grpc"] == ports["admin"] + 10_000

    def test_last_times_are_taken_again(self) -> None:
        ports = s3_server.ports_for({}, "127.0.0.1", wanted=0)

        assert s3_server.ports_for(ports, "127.0.0.1", wanted=0) == ports

    def test_a_taken_one_is_replaced_and_s3s_own_kept(self) -> None:
        ports = s3_server.ports_for({}, "127.0.0.1", wanted=0)
        with socket.socket() as other:
            other.bind(("127.0.0.1", ports["filer"]))
            other.listen()
            again = s3_server.ports_for(ports, "127.0.0.1", wanted=0)

        assert again["s3"] == ports["s3"]
        assert again["filer"] != ports["filer"]

    def test_a_wanted_one_is_taken(self) -> None:
        ports = s3_server.ports_for({}, "127.0.0.1", wanted=0)
        wanted = ports["volume"]

        assert s3_server.ports_for(ports, "127.0.0.1", wanted=wanted)["s3"] == wanted
