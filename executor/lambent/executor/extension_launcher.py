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
