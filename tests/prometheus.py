"""A real Prometheus for tests: Debian's, on a free loopback port, with the shipped configuration and a data
folder of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from support import free_port, require

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
_ADVICE = "scripts/install.sh --tests, or a prometheus on PATH"


def tool(name: str) -> str:
    """The path of `prometheus` or `promtool`; ends the test where there is none."""
    beside = Path(sys.prefix) / "debian/usr/bin" / name
    found = shutil.which(name) or (str(beside) if beside.is_file() else None)
    require("prometheus", found, _ADVICE)
    assert found is not None
    return found


def promtool(*arguments: str) -> str:
    """What it says; fails with that."""
    done = subprocess.run(
        [tool("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """Scrapes `target` (HOST:PORT) each `interval` seconds."""

    def __init__(self, folder: Path, target: str, *, interval: int = 1) -> None:
        binary = tool("prometheus")
        shutil.copytree(CONFIG.parent / "rules", folder / "rules")
        text = CONFIG.read_text()
        assert text.count('["127.0.0.1:9000"]') == 1 and text.count("interval: 15s") == 2
        text = text.replace("127.0.0.1:9000", target).replace("interval: 15s", f"interval: {interval}s")
        (folder / "prometheus.yml").write_text(text)
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"]},
                start_new_session=True,
            )

    def ready(self, seconds: float = 60) -> "Prometheus":
        """Once it answers."""
        until = time.monotonic() + seconds
        while True:
            try:
                with urlopen(f"{self.url}/-/ready", timeout=5):
                    return self
            except (URLError, OSError) as failure:
                assert self._process.poll() is None and time.monotonic() < until, (
                    f"Prometheus does not start: {failure}\n{self._log.read_text()[-2000:]}"
                )
                time.sleep(0.05)

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; fails with what it says of a wrong query."""
        try:
            with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except URLError as failure:
            said = failure.read().decode() if hasattr(failure, "read") else ""
            raise AssertionError(f"{path} {parameters}: {failure} {said}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: `{"metric": labels, "value": [time, text]}`."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
