"""java8 to java25: AWS's runtime client from Maven on a Java of the same version that is on this machine.

AWS: "Building Lambda functions with Java": the class path is /var/task, /var/task/lib/*.jar and
/opt/java/lib/*.jar, which the client's own class loader looks through.
"""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lambent.executor.runtimes import folders, java_client, jdks, names
from lambent.executor.runtimes.family import (
    RUNTIME_DIR,
    Options,
    Place,
    RuntimeCommand,
    RuntimeInfo,
    install_line,
    variables,
)
from lambent.executor.runtimes.folders import Folder
from lambent.executor.runtimes.interpreters import Rejected
from lambent.executor.runtimes.jdks import Jdk
from lambent.kernel.errors import ServiceException

_RESCAN_SECONDS = 3.0
_HEAP = 0.75  # of the function's memory; the rest is for classes, compiled code and threads
_NATIVE_ACCESS_SINCE = 22  # a JVM that warns of the client's native library unless it is allowed


@dataclass(frozen=True, slots=True)
class _Ready:
    jdk: Jdk
    folder: Folder


class JavaFamily:
    """See `family.Family`."""

    names = tuple(name for name in names.CURRENT if name.startswith("java"))

    def __init__(self, place: Place) -> None:
        self._place = place
        self._found: Sequence[Jdk] = ()
        self._rejected: Sequence[Rejected] = ()
        self._ready: dict[int, _Ready] = {}
        self._scanned: float | None = None
        self._lock = threading.Lock()

    def scan(self) -> None:
        with self._lock:
            self._found, self._rejected = jdks.scan()
            ready: dict[int, _Ready] = {}
            for folder in folders.find(self._place.root, java_client.FAMILY):
                feature = jdks.feature(str(folder.said["java"]))
                jdk = self._machines(feature)
                if jdk is not None:
                    ready.setdefault(feature, _Ready(jdk, folder))
            self._ready = ready
            self._scanned = time.monotonic()

    def _machines(self, feature: int) -> Jdk | None:
        return next((jdk for jdk in self._found if jdk.feature == feature), None)

    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        feature = _feature(runtime)
        if self._resolve(feature) is not None:
            return None, None
        install = install_line(runtime, self._place.state_dir)
        there = self._machines(feature)
        if there is not None:
            return (
                f"Lambent cannot run {runtime} on this machine yet: {there.java} is there, but AWS's runtime "
                f"client is not. Run: {install}.",
                None,
            )
        failed = [one for one in self._rejected if re.search(rf"\b{feature}\b", one.path.name)]
        seen = f" ({failed[0].path} {failed[0].reason})" if failed else ""
        return (
            f"Lambent cannot run {runtime} on this machine: there is no Java {feature} that works{seen}. "
            f"Install one (apt-get install openjdk-{feature}-jdk-headless, or sdk install java), "
            f"then run: {install}.",
            None,
        )

    def command(self, runtime: str, handler: str, memory_mb: int) -> RuntimeCommand | None:
        ready = self._resolve(_feature(runtime))
        if ready is None:
            return None
        jdk, said = ready.jdk, ready.folder.said
        outside = [] if jdk.home.is_relative_to("/usr") else [jdk.home / "lib"]
        options = [*java_client.FLAGS, f"-Xmx{int(memory_mb * _HEAP)}m"]
        if said["archive"]:
            options += [f"-XX:SharedArchiveFile={RUNTIME_DIR}/{java_client.ARCHIVE}", "-Xshare:auto"]
            options += ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]  # of another build of this Java: no archive
        if jdk.feature >= _NATIVE_ACCESS_SINCE:
            options.append("--enable-native-access=ALL-UNNAMED")
        # Twice: as the archive knows the jars, and, where there is no /var/runtime, by their full paths.
        path = [java_client.class_path(said["jars"], top) for top in ("../runtime", RUNTIME_DIR)]
        return RuntimeCommand(
            argv=(str(jdk.java), *options, "-cp", ":".join(path), java_client.MAIN, handler),
            prefixes=jdk.prefixes,
            runtime_dir=ready.folder.path,
            env={
                **variables(handler, path=[jdk.home / "bin"], libraries=outside),
                "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
                "CLASSPATH": "/opt/java/lib/*",
            },
            version_text=f"java:{jdk.version}",
        )

    def info(self, runtime: str) -> RuntimeInfo:
        ready = self._resolve(_feature(runtime))
        if ready is None:
            return RuntimeInfo(runtime, False, problem=self.problem(runtime)[0])
        client = str(ready.folder.said["client"])
        return RuntimeInfo(
            runtime,
            True,
            runs_on=f"java{ready.jdk.feature}",
            interpreter=str(ready.jdk.java),
            version=ready.jdk.version,
            client=f"aws-lambda-java-runtime-interface-client {client}",
            packages={"aws-lambda-java-runtime-interface-client": client},
        )

    async def install(self, runtime: str, options: Options) -> None:
        jdk = self._machines(_feature(runtime))
        if jdk is None:
            raise ServiceException(self.problem(runtime)[0])
        name = f"java{jdk.feature}"
        await java_client.install(self._place.root, name, jdk, seconds=options.seconds, on_line=options.on_line)

    def _resolve(self, feature: int) -> _Ready | None:
        found = self._ready.get(feature)
        if found is not None and found.folder.path.exists() and found.jdk.java.exists():
            return found
        if self._scanned is None or time.monotonic() - self._scanned >= _RESCAN_SECONDS:
            self.scan()
        return self._ready.get(feature)


def _feature(runtime: str) -> int:
    match = re.match(r"java(\d+)", runtime)
    assert match is not None, "the registry asks a family for its own names only"
    return int(match[1])
