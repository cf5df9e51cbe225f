"""Making the runtime folder of a Java runtime: AWS's runtime client and what it needs, by Maven, and an archive
of their classes (AppCDS), which halves the time of a start.

The archive holds only for the class path that it was made with, as text and as files. So both the maker and an
environment name the jars relative to their current folder: `../runtime/lib/x.jar` from `task/`.
"""

import asyncio
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lambent.executor.runtimes import folders, tool
from lambent.executor.runtimes.family import OnLine
from lambent.executor.runtimes.folders import Folder
from lambent.executor.runtimes.jdks import Jdk
from lambent.kernel.errors import ServiceException
from lambent.kernel.log import Log

_log = Log(__name__)
FAMILY = "java"
MAIN = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"
ARCHIVE = "runtime.jsa"
FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_CLIENT, _VERSION = "aws-lambda-java-runtime-interface-client", "2.10.1"
_FIRST_WITH_ARCHIVES = 17
_ARCHIVE_SECONDS = 60
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>lambent</groupId><artifactId>runtime</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.amazonaws</groupId><artifactId>{_CLIENT}</artifactId><version>{_VERSION}</version>
  </dependency></dependencies>
</project>
"""


async def install(root: Path, runtime: str, jdk: Jdk, *, seconds: float, on_line: OnLine | None) -> Folder:
    """The folder for `runtime` on `jdk`. Raises ServiceException with advice."""
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceException(
            "There is no Maven to fetch AWS's runtime client for Java with. Install it (apt-get install maven) "
            "and try again."
        )
    new = await asyncio.to_thread(folders.new_folder, root)
    try:
        pom = new / "pom.xml"
        pom.write_text(_POM)
        command = [
            *(maven, "-B", "-ntp", "-f", str(pom), "dependency:copy-dependencies"),
            *(f"-DoutputDirectory={new / 'lib'}", "-DincludeScope=runtime"),
        ]
        code, lines = await tool.run(command, seconds=seconds, on_line=on_line, cwd=new)
        if code != 0:
            raise ServiceException(
                f"Maven could not fetch {_CLIENT} {_VERSION}. Is its repository reachable (the mirrors and "
                "proxies of ~/.m2/settings.xml apply)? Maven said:\n" + "\n".join(lines[-15:])
            )
        pom.unlink()
        archived = jdk.feature >= _FIRST_WITH_ARCHIVES and await asyncio.to_thread(_archive, new, jdk)
        jars = sorted(path.name for path in (new / "lib").glob("*.jar"))
        said = {"client": _VERSION, "jars": jars, "java": jdk.version, "archive": archived}
        return await asyncio.to_thread(
            lambda: folders.finish(new, root, family=FAMILY, runtime=runtime, said=said)
        )
    except OSError as failure:
        raise ServiceException(f"The runtime folder could not be made in {root}: {failure}.") from failure
    finally:
        if new.exists():
            await asyncio.to_thread(shutil.rmtree, new)


def class_path(jars: list[str], top: str) -> str:
    """The jars below `top`, as one argument."""
    return ":".join(f"{top}/lib/{jar}" for jar in jars)


def _archive(new: Path, jdk: Jdk) -> bool:
    """Runs the client once, with `System.exit` as its function, and has the JVM write at its exit what it had
    loaded. Without it starts are slower and right."""
    task = new / ".work" / "task"
    task.mkdir(parents=True)
    (task.parent / "runtime").symlink_to(new)
    jars = sorted(path.name for path in (new / "lib").glob("*.jar"))
    with _OneEvent() as address:
        variables = {
            "AWS_LAMBDA_RUNTIME_API": address,
            "LAMBDA_TASK_ROOT": str(task),
            "AWS_REGION": "us-east-1",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            **{f"AWS_LAMBDA_FUNCTION_{name}": "1" for name in ("NAME", "VERSION", "MEMORY_SIZE")},
            **{f"AWS_LAMBDA_LOG_{name}_NAME": "x" for name in ("GROUP", "STREAM")},
        }
        command = [
            *(str(jdk.java), *FLAGS, f"-XX:ArchiveClassesAtExit={new / ARCHIVE}"),
            *("-cp", class_path(jars, "../runtime"), MAIN, "java.lang.System::exit"),
        ]
        try:
            ran = subprocess.run(
                command,
                cwd=task,
                env={"PATH": os.environ.get("PATH", ""), **variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_ARCHIVE_SECONDS,
                check=False,
            )
            said = ran.stdout[-300:].decode(errors="replace")
        except subprocess.TimeoutExpired:
            said = "it did not end"
    shutil.rmtree(task.parent)
    made = (new / ARCHIVE).exists()
    if not made:
        _log.warning("No class archive was made; functions start more slowly.", java=str(jdk.java), why=said)
    return made


class _OneEvent:
    """A Runtime API on loopback that gives the event `0` to whoever asks."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Lambda-Runtime-Aws-Request-Id", "archive")
                self.send_header("Lambda-Runtime-Deadline-Ms", "9999999999999")
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:::function:archive")
                self.send_header("Content-Length", "1")
                self.end_headers()
                self.wfile.write(b"0")

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return f"127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
