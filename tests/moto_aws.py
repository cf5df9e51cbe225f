"""SQS, SNS and EventBridge behind one URL: moto's server, a real HTTP server that speaks their APIs."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from support import free_port, require


class MotoServer:
    """Its state is gone with it. `start` comes back on the same port; `close` ends it."""

    def __init__(self, log: Path) -> None:
        require("moto", importlib.util.find_spec("moto"), 'pip install "moto[server]"')
        self._log = log
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 60) -> "MotoServer":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "us-east-1"},
                start_new_session=True,
            )
        until = time.monotonic() + seconds
        while True:
            try:
                with urlopen(f"{self.url}/moto-api/", timeout=5):
                    return self
            except (URLError, OSError) as failure:
                assert self._process.poll() is None and time.monotonic() < until, (
                    f"moto does not start: {failure}\n{self._log.read_text()[-2000:]}"
                )
                time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

    def queue(self, name: str) -> str:
        """Makes a queue; its ARN."""
        url = self.client("sqs").create_queue(QueueName=name)["QueueUrl"]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn: str = answer["Attributes"]["QueueArn"]
        return arn

    def pause(self) -> None:
        """It hangs: connections are taken and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def received(self, arn: str) -> list[dict[str, Any]]:
        """All that is in a queue now; it is deleted there."""
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
        found: list[dict[str, Any]] = []
        while batch := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(batch)]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)
            found += batch
        return found

    def messages(self, arn: str, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        """`count` messages of a queue, which are deleted there; fails if no more come in time."""
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
        found: list[dict[str, Any]] = []
        until = time.monotonic() + seconds
        while len(found) < count:
            assert time.monotonic() < until, f"{len(found)} of {count} messages came: {found}"
            answer = sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            for message in answer.get("Messages", ()):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                found.append(message)
        return found
