"""The first process of an environment with external extensions: starts them, then the runtime, and ends as the
runtime does. It runs inside, as the function does, with no power of its own, by `python -c`: it is not imported
there.

`argv[1]` is JSON: {"runtime": argv of the runtime, "extensions": paths, "dropped": variables that extensions do
not get}. Says over the Runtime API's address, below /lambent/, who has ended how; and is told there when all
have registered. Standard library only.
"""

import json
import os
import signal
import socket
import sys
import threading
import time

API = ("127.0.0.1", 9001)


def ask(method: str, path: str, document: object = None) -> None:
    """Waits for the answer, whatever it is."""
    body = b"" if document is None else json.dumps(document).encode()
    with socket.create_connection(API) as connection:
        connection.sendall(
            b"%b /lambent/%b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
            % (method.encode(), path.encode(), len(body), body)
        )
        connection.recv(65536)


def fetch(path: str) -> bytes:
    """The body of a GET; b"" when the connection ends."""
    with socket.create_connection(API) as connection:
        connection.sendall(b"GET /lambent/%b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
        answer = connection.makefile("rb")
        length = 0
        for line in answer:
            if line == b"\r\n":
                return answer.read(length)
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
    return b""


def deliver() -> None:
    """Takes what has been subscribed to and brings it where it is wanted, as long as the environment lives. A
    destination that does not listen yet is tried again for a while."""
    while True:
        try:
            batch = json.loads(fetch("telemetry") or b"null")
        except (OSError, ValueError):
            batch = None
        if batch is None:
            return
        for pause in (0.05, 0.1, 0.2, 0.5, 1.0):
            try:
                send(batch["destination"], batch["items"])
                break
            except OSError:
                time.sleep(pause)


def send(destination: dict[str, str], items: list[object]) -> None:
    with socket.create_connection(("127.0.0.1", int(destination["port"])), timeout=5) as connection:
        if destination["protocol"] == "TCP":
            connection.sendall(b"".join(json.dumps(item).encode() + b"\n" for item in items))
            return
        body = json.dumps(items).encode()
        connection.sendall(
            b"POST %b HTTP/1.1\r\nhost: sandbox.localdomain:%d\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%b"
            % (destination["path"].encode(), int(destination["port"]), len(body), body)
        )
        connection.recv(1024)


def pass_on(pipe: int, mark: bytes) -> None:
    """An extension's output, line by line, each marked as its own."""
    with os.fdopen(pipe, "rb") as lines:
        for line in lines:
            rest = memoryview(mark + line.rstrip(b"\n") + b"\n")
            while rest:
                rest = rest[os.write(1, rest) :]


def tell(document: object) -> None:
    try:
        ask("POST", "exited", document)
    except OSError:
        pass  # the environment ends


def end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def end_after(status: int) -> None:
    """The extensions are told of the end first, and have their time: the answer comes when it is over."""
    tell({"runtime": True, "status": status})
    end_as(status)


class Launcher:
    def __init__(self, given: dict[str, list[str]]) -> None:
        self.given = given
        self.names: dict[int, str] = {}
        self.runtime = -1
        self.started = threading.Event()

    def start_extensions(self) -> None:
        dropped = set(self.given["dropped"])
        theirs = {name: value for name, value in os.environ.items() if name not in dropped}
        os.chdir("/")
        for path in self.given["extensions"]:
            name = os.path.basename(path)
            read, write = os.pipe()
            onto = [(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_DUP2, write, 2)]
            try:
                self.names[os.posix_spawn(path, [path], theirs, file_actions=onto)] = name
                os.close(write)
                mark = b"\x1e%b\x1f" % name.encode()
                threading.Thread(target=pass_on, args=(read, mark), daemon=True).start()
            except OSError as failure:
                tell({"name": name, "error": f"fork/exec {path}: {str(failure.strerror).lower()}"})
                signal.pause()

    def start_runtime(self) -> None:
        """In a thread of its own: an extension that ends before it has registered must be noticed meanwhile."""
        ask("GET", "registered")
        os.chdir("/var/task")
        self.runtime = os.posix_spawn(self.given["runtime"][0], self.given["runtime"], os.environ)
        self.started.set()

    def terminate(self, number: int, _: object) -> None:
        if self.runtime > 0:
            os.kill(self.runtime, number)

    def run(self) -> None:
        self.start_extensions()
        signal.signal(signal.SIGTERM, self.terminate)
        threading.Thread(target=self.start_runtime, daemon=True).start()
        threading.Thread(target=deliver, daemon=True).start()
        while True:
            try:
                pid, status = os.wait()
            except ChildProcessError:  # none is left: the runtime is to come, or the environment to end
                self.started.wait()
                if self.runtime < 0:
                    signal.pause()
                continue
            if pid == self.runtime:
                self.runtime = -1
                threading.Thread(target=end_after, args=(status,), daemon=True).start()
            elif pid in self.names:
                tell({"name": self.names[pid], "status": status})


if __name__ == "__main__":
    Launcher(json.loads(sys.argv[1])).run()
