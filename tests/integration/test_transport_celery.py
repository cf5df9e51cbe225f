"""Celery's own worker over the transport, named by its URL."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import require

APP = """
import os, signal
import lambent.scheduler.transport.streams  # makes streams:// known to kombu
from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"])
app.conf.broker_transport_options = {"claim_idle": 1.0}
app.conf.task_acks_late = True
app.conf.broker_connection_retry_on_startup = True


def say(text):
    with open(os.environ["OUT"], "a") as file:
        file.write(text + "\\n")


@app.task
def note(text):
    say(text)


@app.task(bind=True)
def again(self, text):
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    say(text)


@app.task
def once_deadly(text):
    first = not os.path.exists(os.environ["OUT"] + ".died")
    if first:
        open(os.environ["OUT"] + ".died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    say(text)


if __name__ == "__main__":
    import sys
    name, *arguments = sys.argv[1:]
    if name == "ping":
        print(sorted(name for row in app.control.ping(timeout=10, limit=1) for name in row))
    else:
        app.tasks["tasks." + name].delay(*arguments)
"""


class Workers:
    """A Celery app in a folder of its own, its workers, and the lines that its tasks wrote."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._out = folder / "out"
        self._environment = {**os.environ, "BROKER": url, "OUT": str(self._out)}
        self._workers: list[subprocess.Popen[bytes]] = []
        (folder / "tasks.py").write_text(APP)

    def call(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "tasks.py", *arguments],
            cwd=self._folder,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()

    def work(self, name: str) -> "subprocess.Popen[bytes]":
        with (self._folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", "solo", "-n", name],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._workers.append(worker)
        return worker

    def lines(self) -> list[str]:
        return sorted(self._out.read_text().split()) if self._out.exists() else []

    def await_lines(self, *expected: str) -> None:
        end = time.monotonic() + 60
        while not set(expected) <= set(self.lines()):
            assert time.monotonic() < end, (self.lines(), (self._folder / "worker.log").read_text()[-3000:])
            time.sleep(0.05)

    def close(self) -> None:
        for worker in self._workers:
            worker.send_signal(signal.SIGKILL)
            worker.wait(20)


@pytest.fixture
def make_workers(tmp_path: Path) -> Iterator[Callable[[str], Workers]]:
    require("celery", importlib.util.find_spec("celery"), "pip install celery")
    made: list[Workers] = []

    def make(url: str) -> Workers:
        made.append(Workers(tmp_path, url))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_tasks_run_retry_and_answer_to_remote_control(
    kind: str, request: pytest.FixtureRequest, make_workers: Callable[[str], Workers]
) -> None:
    url: str = request.getfixturevalue("redis_url" if kind == "server" else "redis_nodes_url")
    workers = make_workers(url.replace("redis", "streams", 1))
    for number in range(3):
        workers.call("note", f"n{number}")
    workers.call("again", "retried")
    workers.work("one@here")
    workers.await_lines("n0", "n1", "n2", "retried")
    assert workers.call("ping") == "['one@here']"
    assert workers.lines() == ["n0", "n1", "n2", "retried"]


def test_a_task_whose_worker_was_killed_runs_at_another(
    redis_url: str, make_workers: Callable[[str], Workers]
) -> None:
    workers = make_workers(redis_url.replace("redis", "streams", 1))
    workers.call("once_deadly", "alive")
    first = workers.work("one@here")
    assert first.wait(60) == -signal.SIGKILL
    workers.work("two@here")
    workers.await_lines("alive")
