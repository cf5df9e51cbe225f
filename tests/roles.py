"""The roles of a cluster as real processes on this machine, around one real Redis."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import RedisServer, free_port, redis_program

_READY = {
    "gateway": re.compile(r"Lambent gateway at (http://\S+)"),
    "scheduler": re.compile(r"Lambent scheduler (\S+)"),
    "executor": re.compile(r"Lambent executor (\S+)"),
}


class Role:
    """One process. It keeps its folder and its port when it is started again."""

    def __init__(self, kind: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.kind = kind
        self.name = folder.name
        self.data_dir = folder
        self.log = folder.with_name(folder.name + ".log")
        self.environment = dict(environment)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.serving = ""
        self.dying = False  # is about to be killed, so that nobody wonders

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def launch(self) -> None:
        """Without waiting for it."""
        self._began = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", "lambent.cli", self.kind]
        command += ["--port", str(self.port), "--data-dir", str(self.data_dir)]
        base = {"PATH": os.environ["PATH"], "HOME": str(self.data_dir.parent), "COLUMNS": "200"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**base, **self.environment},
                start_new_session=True,
            )

    def ready(self, seconds: float = 90.0) -> "Role":
        assert self.process is not None
        until = time.monotonic() + seconds
        text = ""
        while time.monotonic() < until:
            text = self.log.read_bytes()[self._began :].decode("utf-8", "replace")
            found = _READY[self.kind].search(text)
            if found and "Stop with" in text:
                self.serving = found[1]
                return self
            if self.process.poll() is not None:
                raise AssertionError(f"`lambent {self.kind}` ended with {self.process.returncode}:\n{text}")
            time.sleep(0.05)
        raise AssertionError(f"`lambent {self.kind}` is not ready in {seconds} s:\n{text}")

    def knows_executors(self, seconds: float = 20.0) -> None:
        """Waits until a gateway has heard of one."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{self.url}/_lambent/runtimes", timeout=10) as answer:
                if json.loads(answer.read())["runtimes"]:
                    return
            time.sleep(0.1)
        raise AssertionError("the gateway hears of no executor")

    def start(self) -> "Role":
        self.launch()
        return self.ready()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"`lambent {self.kind}` did not stop:\n{self.output()[-4000:]}") from None

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def client(self, service: str = "lambda") -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
        )


class ClusterOf:
    """`with ClusterOf(folder, gateways=3, ...) as cluster`: all started, and all ended in the end."""

    def __init__(
        self,
        folder: Path,
        *,
        gateways: int = 1,
        schedulers: int = 1,
        executors: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.redis = RedisServer(redis_program())
        self._shared = {
            "LAMBENT_REDIS_URL": self.redis.url,
            "LAMBENT_BLOBS": str(folder / "blobs"),
            "LAMBENT_DRAIN_SECONDS": "20",
            **(environment or {}),
        }
        self.gateways = [self._role("gateway", i) for i in range(gateways)]
        self.schedulers = [self._role("scheduler", i) for i in range(schedulers)]
        self.executors = [self._role("executor", i) for i in range(executors)]

    def _role(self, kind: str, number: int) -> Role:
        # Executors on one machine must not share the uids of their environments.
        own = {"LAMBENT_UID_BASE": str(1_600_000 + number * 10_000), "LAMBENT_MEMORY_MB": "8192"}
        return Role(kind, self.folder / f"{kind}{number}", {**self._shared, **own})

    def add_executor(self) -> Role:
        made = self._role("executor", len(self.executors))
        self.executors.append(made)
        return made

    @property
    def all(self) -> list[Role]:
        return [*self.gateways, *self.schedulers, *self.executors]

    def __enter__(self) -> "ClusterOf":
        self.redis.start()
        try:
            for role in self.all:
                role.launch()
            for role in self.all:
                role.ready()
            for gateway in self.gateways:
                gateway.knows_executors()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for role in self.all:
            if role.alive:
                role.signal(signal.SIGCONT)
                role.signal(signal.SIGTERM)
        until = time.monotonic() + 40
        for role in self.all:
            if role.process is None:
                continue
            try:
                role.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                role.kill()
        self.redis.close()
