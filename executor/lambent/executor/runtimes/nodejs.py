"""nodejs20.x and later: AWS's runtime client from npm on a Node.js of the same major version, this machine's or
one that was installed with it.

AWS: "Building Lambda functions with Node.js", "Defined runtime environment variables"; where AWS has /var/lang,
here is the interpreter's own folder.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.executor.runtimes import folders, names, nodejs_client
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
from lambent.executor.runtimes.nodes import Node, Nodes, probe
from lambent.executor.variables import RUNTIME_API

_RESCAN_SECONDS = 3.0
_READ_AT_START = ("LANG", "LD_LIBRARY_PATH", "NODE_PATH", "PATH", "TZ")
_OLD_SPACE, _SEMI_SPACE = 0.9, 0.05  # of the function's memory, as on AWS


@dataclass(frozen=True, slots=True)
class _Ready:
    node: Node
    folder: Folder


class NodejsFamily:
    """See `family.Family`."""

    names = tuple(name for name in names.CURRENT if name.startswith("nodejs"))

    def __init__(self, place: Place) -> None:
        self._place = place
        self._nodes = Nodes()
        self._own: dict[Path, Node | Rejected] = {}
        self._found: Sequence[Node] = ()
        self._rejected: Sequence[Rejected] = ()
        self._ready: dict[str, _Ready] = {}
        self._scanned: float | None = None
        self._lock = threading.Lock()

    def scan(self) -> None:
        with self._lock:
            self._found, self._rejected = self._nodes.scan()
            ready: dict[str, _Ready] = {}
            for folder in folders.find(self._place.root, nodejs_client.FAMILY):
                node = self._node_for(folder)
                if node is None or folder.runtime in ready:
                    continue
                if not self._place.look_only:
                    nodejs_client.put_ours(folder.path)
                ready[folder.runtime] = _Ready(node, folder)
            self._ready = ready
            self._scanned = time.monotonic()

    def _node_for(self, folder: Folder) -> Node | None:
        if "node" not in folder.said:
            return self._machines(folder.runtime)
        path = folder.path / nodejs_client.OWN_NODE
        if path not in self._own:
            self._own[path] = probe(path, inside=True)
        found = self._own[path]
        return found if isinstance(found, Node) else None

    def _machines(self, runtime: str) -> Node | None:
        return next((node for node in self._found if node.major == _major(runtime)), None)

    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        if self._resolve(runtime) is not None:
            return None, None
        major, install = _major(runtime), install_line(runtime, self._place.state_dir)
        there = self._machines(runtime)
        if there is not None:
            return (
                f"Lambent cannot run {runtime} on this machine yet: {there.executable} is there, but AWS's "
                f"runtime client is not. Run: {install}.",
                None,
            )
        return (
            f"Lambent cannot run {runtime} on this machine: there is no Node.js {major}. Run: {install}; it "
            f"fetches one, unless nvm, fnm, asdf, mise, volta or a package has brought it before.",
            None,
        )

    def command(self, runtime: str, handler: str, memory_mb: int) -> RuntimeCommand | None:
        ready = self._resolve(runtime)
        if ready is None:
            return None
        node, own = ready.node, "node" in ready.folder.said
        program = f"{RUNTIME_DIR}/{nodejs_client.OWN_NODE}" if own else str(node.executable)
        outside = [] if node.executable.is_relative_to("/usr") else [node.executable.parent]
        modules = (
            f"/opt/nodejs/node{_major(runtime)}/node_modules",
            "/opt/nodejs/node_modules",
            f"{RUNTIME_DIR}/node_modules",
        )
        path: Sequence[object] = [f"{RUNTIME_DIR}/bin"] if own else outside
        env = {**variables(handler, path=path), "NODE_PATH": ":".join(modules)}
        return RuntimeCommand(
            argv=(
                program,
                "--expose-gc",
                f"--max-semi-space-size={max(1, int(memory_mb * _SEMI_SPACE))}",
                f"--max-old-space-size={int(memory_mb * _OLD_SPACE)}",
                *node.off,
                f"{RUNTIME_DIR}/{nodejs_client.START}",
            ),
            prefixes=() if own else node.prefixes,
            runtime_dir=ready.folder.path,
            env={**env, "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}"},
            version_text=f"nodejs:{node.version}",
            ahead_env={**{name: env[name] for name in _READ_AT_START}, "AWS_LAMBDA_RUNTIME_API": RUNTIME_API},
        )

    def info(self, runtime: str) -> RuntimeInfo:
        ready = self._resolve(runtime)
        if ready is None:
            return RuntimeInfo(runtime, False, problem=self.problem(runtime)[0])
        said, own = ready.folder.said, "node" in ready.folder.said
        client = f"aws-lambda-ric {said['client']}"
        return RuntimeInfo(
            runtime,
            True,
            runs_on=runtime,
            interpreter=str(ready.folder.path / nodejs_client.OWN_NODE if own else ready.node.executable),
            version=ready.node.version,
            client=client if said["native"] else f"{client} (its HTTP calls by Lambent)",
            warning=f"the client's native addon is not used: {said['why_not']}"
            if said.get("why_not")
            else None,
            packages={"aws-lambda-ric": said["client"], **said.get("packages", {})},
        )

    async def install(self, runtime: str, options: Options) -> None:
        node = self._machines(runtime)
        await nodejs_client.install(self._place.root, runtime, node, options)

    def _resolve(self, runtime: str) -> _Ready | None:
        found = self._ready.get(runtime)
        if found is not None and found.folder.path.exists() and found.node.executable.exists():
            return found
        if self._scanned is None or time.monotonic() - self._scanned >= _RESCAN_SECONDS:
            self.scan()
        return self._ready.get(runtime)


def _major(runtime: str) -> int:
    return int(runtime.removeprefix("nodejs").removesuffix(".x"))
