"""The main job, end to end: a photograph goes into a bucket, and its thumbnail comes out of another one.

`python demo.py [--photo PATH] [--keep]` starts a Lambent of its own on a free port with an empty data folder,
deploys `app.py` with Pillow as a layer, adds the S3 trigger, uploads the photograph, checks the thumbnail, and
stops what it started. Exit code 0: the thumbnail is right; 1: what failed, and what to do, is on the screen.
"""

import argparse
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, WaiterError
from build_layer import build
from image_size import image_size
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

HERE = Path(__file__).resolve().parent
PHOTO = HERE.parent / "photo" / "grace_hopper.jpg"
FUNCTION, SOURCE, TARGET, PIXELS = "image-resize", "demo-photos", "demo-thumbnails", 128
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
START_SECONDS, THUMBNAIL_SECONDS, STOP_SECONDS = 60.0, 60.0, 60.0
_REPORT = re.compile(r"REPORT RequestId: \S+.*Billed Duration: (?P<billed>\d+) ms")
_T = TypeVar("_T")
# What is started here is on this machine, which a proxy of the environment's can't reach; pip keeps that proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
console = Console(highlight=False, soft_wrap=True)


class DemoFailed(Exception):
    """What failed, and what to do."""


class Server:
    """A Lambent of our own: `lambent up` on a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "lambent.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.s3_url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once /healthz is 200. Raises DemoFailed."""
        # A Lambent of the user's own, and its settings, are not this one's.
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAMBENT_", "AWS_"))}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(_lambent(), "up", "--host", "127.0.0.1", "--port", str(self.port)),
                    *("--data-dir", str(self.folder / "data")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean,
                # Ctrl-C is for this script, which then stops the server in order.
                start_new_session=True,
            )
        health = _until(self._health, START_SECONDS, f"Lambent does not answer after {START_SECONDS:g} s.")
        self.s3_url = health.get("endpoints", {}).get("s3") or ""
        if not self.s3_url:
            raise DemoFailed("Lambent runs without its S3 server. Install it: pip install 'lambent[s3]'")

    def _health(self) -> Any:
        assert self._process is not None
        if self._process.poll() is not None:
            raise DemoFailed(f"Lambent ended at its start (exit code {self._process.returncode}).")
        try:
            return self.get("/healthz")
        except (OSError, ValueError):
            return None

    def get(self, path: str) -> Any:
        with _DIRECT.open(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(self.url + path, data=json.dumps(body).encode(), method="POST")
        try:
            with _DIRECT.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as failure:
            raise DemoFailed(f"POST {path} answered {failure.code}: {failure.read().decode()}") from failure

    def function_log(self) -> list[str]:
        lines = self.get(f"/_lambent/logs?function={FUNCTION}")["lines"]
        return [line["message"].rstrip("\n") for line in lines]

    def stop(self) -> None:
        """SIGTERM, and waits until it has drained. Raises DemoFailed if it does not end, or not with 0."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise DemoFailed(
                f"Lambent did not stop within {STOP_SECONDS:g} s of SIGTERM and was killed."
            ) from None
        if code:
            raise DemoFailed(f"Lambent stopped with exit code {code}.")


class Demo:
    """The steps, in order."""

    def __init__(self, server: Server, photo: Path, folder: Path) -> None:
        self._server = server
        self._photo = photo
        self._folder = folder
        self._key = f"holiday/{photo.name}"

    def connect(self) -> None:
        self._server.start()
        access = {
            "aws_access_key_id": "any",
            "aws_secret_access_key": "any",
            "region_name": "us-east-1",
            "config": Config(retries={"max_attempts": 3}, s3={"addressing_style": "path"}, proxies={}),
        }
        self._lambda = boto3.client("lambda", endpoint_url=self._server.url, **access)
        self._s3 = boto3.client("s3", endpoint_url=self._server.s3_url, **access)

    def make_buckets(self) -> None:
        for bucket in (SOURCE, TARGET):
            self._s3.create_bucket(Bucket=bucket)

    def build_layer(self) -> None:
        try:
            build(self._folder / "layer.zip", python=RUNTIME.removeprefix("python"))
        except RuntimeError as failure:
            raise DemoFailed(f"{failure}\nIs the package index reachable? See `pip config list`.") from failure

    def publish_layer(self) -> None:
        layer = self._lambda.publish_layer_version(
            LayerName="pillow",
            Content={"ZipFile": (self._folder / "layer.zip").read_bytes()},
            CompatibleRuntimes=[RUNTIME],
        )
        self._layer = layer["LayerVersionArn"]

    def create_function(self) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(HERE / "app.py", "app.py")
        self._lambda.create_function(
            FunctionName=FUNCTION,
            Runtime=RUNTIME,
            Role="arn:aws:iam::000000000000:role/demo",
            Handler="app.handler",
            Code={"ZipFile": packed.getvalue()},
            Timeout=30,
            MemorySize=256,
            Layers=[self._layer],
            Environment={"Variables": {"TARGET_BUCKET": TARGET, "THUMBNAIL_PIXELS": str(PIXELS)}},
        )
        waiter = self._lambda.get_waiter("function_active_v2")
        waiter.wait(FunctionName=FUNCTION, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    def add_trigger(self) -> None:
        self._server.post("/_lambent/triggers", {"bucket": SOURCE, "function": FUNCTION})

    def upload(self) -> None:
        self._s3.put_object(Bucket=SOURCE, Key=self._key, Body=self._photo.read_bytes())

    def await_thumbnail(self) -> None:
        late = f"No thumbnail after {THUMBNAIL_SECONDS:g} s: s3://{TARGET}/{self._key} is not there."
        self._thumbnail: bytes = _until(self._fetch, THUMBNAIL_SECONDS, late)

    def _fetch(self) -> bytes | None:
        try:
            answer = self._s3.get_object(Bucket=TARGET, Key=self._key)
        except self._s3.exceptions.NoSuchKey:
            return None
        return bytes(answer["Body"].read())

    def check(self) -> None:
        """The thumbnail has the photograph's shape, and its longer side the asked length."""
        before, after = image_size(self._photo.read_bytes()), image_size(self._thumbnail)
        self._sizes = (before, after)
        wide, high = before
        longest = min(PIXELS, max(before))
        # A camera may have noted that the picture lies on its side: then the thumbnail stands.
        shapes = (after, after[::-1])
        if max(after) != longest or all(abs(w * high - h * wide) > max(before) for w, h in shapes):
            raise DemoFailed(
                f"The thumbnail is {after[0]} x {after[1]} pixels: its longer side should have {longest}, "
                f"and its shape be that of {wide} x {high}."
            )

    def await_report(self) -> None:
        late = "The log has no REPORT line of the invocation."
        self._report: re.Match[str] = _until(self._find_report, THUMBNAIL_SECONDS, late)

    def _find_report(self) -> re.Match[str] | None:
        found = [match for line in self._server.function_log() if (match := _REPORT.search(line))]
        return found[-1] if found else None

    def result(self, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        path = output / f"thumbnail{self._photo.suffix.lower() or '.jpg'}"
        path.write_bytes(self._thumbnail)
        (wide, high), (width, height) = self._sizes
        console.print()
        console.print(self._report.string.strip())
        console.print(f"Billed: {self._report['billed']} ms of 256 MB")
        console.print(f"{self._photo} ({wide} x {high}) -> {path} ({width} x {height})")


def _steps(demo: Demo) -> list[tuple[str, Callable[[], None]]]:
    return [
        ("start Lambent, its queue and its S3 server", demo.connect),
        (f"create the buckets {SOURCE} and {TARGET}", demo.make_buckets),
        ("fetch Pillow and build the layer", demo.build_layer),
        ("publish the layer", demo.publish_layer),
        (f"create the function {FUNCTION} ({RUNTIME})", demo.create_function),
        (f"add the trigger s3://{SOURCE} -> {FUNCTION}", demo.add_trigger),
        ("upload the photograph", demo.upload),
        ("wait for the thumbnail", demo.await_thumbnail),
        ("check the thumbnail's pixels", demo.check),
        ("read the REPORT line", demo.await_report),
    ]


def run(photo: Path, output: Path, folder: Path) -> None:
    """All steps; whatever happens, the server is stopped. Raises DemoFailed and what boto3 raises."""
    server = Server(folder)
    demo = Demo(server, photo, folder)
    try:
        columns = (SpinnerColumn(finished_text="[green]ok[/green]"), TextColumn("{task.description}"))
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            for text, step in _steps(demo):
                task = progress.add_task(text, total=1)
                step()
                progress.update(task, completed=1)
        demo.result(output)
    except BaseException:
        _tell_logs(server)
        # The first failure is the one to tell; a server that then does not stop in order comes second.
        try:
            server.stop()
        except DemoFailed as failure:
            console.print(str(failure))
        raise
    server.stop()
    console.print("Stopped Lambent and what it had started.")


def _tell_logs(server: Server) -> None:
    def show(title: str, lines: list[str]) -> None:
        console.print(f"\n[bold]{title}, last lines:[/bold]")
        for line in lines[-20:] or ["(nothing)"]:
            console.print("  " + line, markup=False)

    if server.s3_url:
        try:
            show(f"Log of the function {FUNCTION}", server.function_log())
        except (OSError, ValueError, KeyError) as failure:
            show(f"Log of the function {FUNCTION}", [f"cannot be read: {failure}"])
    if server.log.exists():
        show("Log of the server", server.log.read_text(errors="replace").splitlines())


def _until(look: Callable[[], _T | None], seconds: float, late: str) -> _T:
    end = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > end:
            raise DemoFailed(f"{late} The logs below may say why.")
        time.sleep(0.1)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _lambent() -> str:
    beside = Path(sys.executable).parent / "lambent"
    found = str(beside) if beside.exists() else shutil.which("lambent")
    if found is None:
        raise DemoFailed("There is no command `lambent` here. Run `make install` first.")
    return found


def _advice(failure: Exception) -> str:
    if isinstance(failure, ClientError):
        return f"{failure}\nThe server refused a step; its message says why."
    if isinstance(failure, WaiterError):
        return f"{failure}\nThe function did not become Active; the server's log says why."
    if isinstance(failure, BotoCoreError):
        return f"{failure}\nThe server did not answer; its log says why."
    return str(failure)


def main() -> None:
    parser = argparse.ArgumentParser(description="A photograph in, a thumbnail out, on a Lambent of its own.")
    parser.add_argument("--photo", type=Path, default=PHOTO, help="JPEG or PNG (default: the committed one)")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder of the result")
    parser.add_argument("--keep", action="store_true", help="keep the data folder and the log")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lambent-demo-"))
    # SIGTERM unwinds as Ctrl-C does: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        try:
            image_size(options.photo.read_bytes())
        except (OSError, ValueError) as failure:
            raise DemoFailed(
                f"{options.photo} is not usable: {failure}. Name a JPEG or PNG: PHOTO=path"
            ) from None
        run(options.photo, options.output, folder)
    except (DemoFailed, ClientError, BotoCoreError, OSError, ValueError) as failure:
        console.print("\n[red]The demo failed:[/red]", end=" ")
        console.print(_advice(failure), markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if options.keep:
            console.print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
