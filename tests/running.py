"""A real `lambent up` for tests: started as a person would, on a free port, with its own data folder."""

import base64
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support import require

ROLE = "arn:aws:iam::000000000000:role/test"
_SERVES = re.compile(r"Lambent serves at (http://\S+)")
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


def zipped(files: Mapping[str, str | bytes], mode: int = 0o644) -> bytes:
    """A zip whose entries everybody may read, as AWS wants them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 31, 12, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


class Server:
    """`lambent up`. Its output goes to `log`; `environment` is all it gets beside PATH and HOME; `through`: a
    command that becomes it."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        through: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(data_dir.name + ".log")
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._port = port
        self._through = through
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.s3_url: str | None = None
        self.grpc_target = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, seconds: float = 60.0) -> "Server":
        began = self.log.stat().st_size if self.log.exists() else 0
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.data_dir.parent),
            "COLUMNS": "200",
            **self._environment,
        }
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*self._through, sys.executable, "-m", "lambent.cli", "up", "--port", str(self._port)]
                + ["--data-dir", str(self.data_dir), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            text = self.log.read_bytes()[began:].decode("utf-8", "replace")
            found = _SERVES.search(text)
            if found and "Stop with" in text:
                self.url = found[1]
                self._port = int(self.url.rsplit(":", 1)[1])  # the same one after a restart
                s3 = re.search(r"AWS_ENDPOINT_URL_S3=(\S+)", text)
                self.s3_url = s3[1] if s3 else None
                rpc = re.search(r"^gRPC at (\S+)", text, re.MULTILINE)
                self.grpc_target = rpc[1] if rpc else ""
                return self
            if self._process.poll() is not None:
                raise AssertionError(f"`lambent up` ended with {self._process.returncode}:\n{text}")
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"`lambent up` did not serve in {seconds} s:\n{text}")

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM, as a person or a supervisor ends it; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"`lambent up` did not stop in {seconds} s:\n{self.output()}") from None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9 of the server alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def exports(self) -> dict[str, str]:
        """What the banner says to export, and nothing else."""
        lines = re.findall(r"^  export (.+)$", self.output(), re.MULTILINE)
        return dict(assignment.split("=", 1) for line in lines for assignment in line.split())

    def client(self, service: str = "lambda", **options: Any) -> Any:
        import boto3
        from botocore.config import Config

        url = self.s3_url if service == "s3" else self.url
        return boto3.client(
            service,
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120, **options),
        )


class Functions:
    """Makes functions on a server and invokes them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.aws = server.client()

    def create(self, code: str | Mapping[str, str | bytes], *, name: str | None = None, **members: Any) -> str:
        """A function that is Active; `code` is app.py, or files. The handler is app.handler unless named."""
        files = {"app.py": textwrap.dedent(code)} if isinstance(code, str) else code
        return self.create_from({"ZipFile": zipped(files)}, name=name, **members)

    def create_from(self, code: Mapping[str, Any], *, name: str | None = None, **members: Any) -> str:
        """The same from `Code` as CreateFunction takes it."""
        name = name or f"f-{uuid.uuid4().hex[:12]}"
        given = {"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE, "Timeout": 20, **members}
        self.aws.create_function(FunctionName=name, Code=code, **given)
        self.active(name)
        return name

    def active(self, name: str) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            configuration = self.aws.get_function_configuration(FunctionName=name)
            if configuration["State"] == "Active" and configuration["LastUpdateStatus"] == "Successful":
                return
            assert configuration["State"] != "Failed", configuration
            time.sleep(0.02)
        raise AssertionError(f"{name} is still {configuration['State']}")

    def invoke(self, name: str, event: Any = None, **members: Any) -> "Answer":
        body = event if isinstance(event, bytes) else json.dumps({} if event is None else event).encode()
        answer = self.aws.invoke(FunctionName=name, Payload=body, LogType="Tail", **members)
        return Answer(answer)

    def run(self, code: str, event: Any = None, **members: Any) -> Any:
        """Creates, invokes once, deletes; the function's result. A function error fails the test."""
        name = self.create(code, **members)
        try:
            answer = self.invoke(name, event)
            assert answer.error is None, f"{answer.result}\n{answer.log}"
            return answer.result
        finally:
            self.aws.delete_function(FunctionName=name)

    def logged(self, name: str, until: str = "", *, count: int = 1) -> list[str]:
        """The lines of the function's log, in order; waits until `count` of them start with `until`, since
        lines are stored after the answer has gone out."""
        path, lines = f"/_lambent/logs?function={name}&wait=5", list[str]()
        deadline, cursor = time.monotonic() + 20, ""
        while True:
            status, _, body = request(self.server, "GET", path + cursor if until else path.split("&")[0])
            assert status == 200, body
            page = json.loads(body)
            lines += [line["message"] for line in page["lines"]]
            if not until or sum(line.startswith(until) for line in lines) >= count:
                return lines
            assert time.monotonic() < deadline, f"not {count} {until} in {lines}"
            cursor = f"&after={page['cursor']}" if page["cursor"] else ""


def request(
    server: Server,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, body of one raw HTTP request."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, path, body, dict(headers or {}), **options)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


class Answer:
    """What Invoke answered. `error` is X-Amz-Function-Error or None."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.error: str | None = answer.get("FunctionError")
        self.payload: bytes = answer["Payload"].read()
        self.log = base64.b64decode(answer.get("LogResult", "")).decode("utf-8", "replace")
        self.request_id: str = answer["ResponseMetadata"]["RequestId"]
        self.version: str | None = answer.get("ExecutedVersion")

    @property
    def result(self) -> Any:
        return json.loads(self.payload)


def needs(server: Server, name: str) -> None:
    """Ends the test where this host, or this user, cannot enforce `name`, as `lambent doctor` calls it: skipped
    with doctor's own words, or failed in CI."""
    health = json.loads(request(server, "GET", "/healthz")[2])
    entry = next(entry for entry in health["enforcement"] if entry["name"] == name)
    require(f"enforced {name}", entry["enforced"], f"{entry['how']}. {entry['advice']}")
