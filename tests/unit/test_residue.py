"""The check that nothing is left behind sees one descriptor: it is made on a process that does nothing else.

That of the tests has connections of its own: a gRPC channel of an earlier one may connect again at any time.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from residue import Residue
from running import Server


class Here(Server):
    """The process that asks, as the server; its store listens in the data folder, its API at `api`."""

    def __init__(self, data_dir: Path, api: socket.socket) -> None:
        super().__init__(data_dir)
        self.url = f"http://127.0.0.1:{api.getsockname()[1]}"

    @property
    def pid(self) -> int:
        return os.getpid()


def listening(store: Path) -> socket.socket:
    store.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(store))
        made.listen()
        return made.dup()


def test_one_socket_is_seen_and_connections_with_callers_and_the_store_are_not(tmp_path: Path) -> None:
    # In a folder of its own: a socket's name must be short.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "seen\n", "")


def look() -> None:
    """What the test says, of this process in this folder."""
    data = Path("data")
    data.mkdir()
    (data / "lambent.json").write_text(json.dumps({"instance": "0a1b2c3d"}))
    with socket.create_server(("127.0.0.1", 0)) as api, listening(data / "redis.sock") as store:
        server = Here(data, api)
        before = Residue.of(server)
        with socket.socket(socket.AF_UNIX) as client, socket.create_connection(api.getsockname()):
            client.connect("data/redis.sock")
            served = store.accept()[0], api.accept()[0]
            # Of both connections one end is the server's; the other is ours, and counts.
            assert Residue.of(server).beyond(before) == ["2 more open socket:"]
            for end in served:
                end.close()
        assert Residue.of(server).beyond(before) == []
        with socket.socket():
            assert Residue.of(server).beyond(before) == ["1 more open socket:"]
        assert Residue.of(server).beyond(before) == []


if __name__ == "__main__":
    look()
    print("seen")
