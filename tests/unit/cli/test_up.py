"""What `up` decides by itself: its exit code, and what it says of a listener and of triggers."""

import asyncio
import socket
from pathlib import Path

import pytest

from lambent.cli import listeners, up
from lambent.cli.data_folder import DataFolder
from lambent.kernel.settings import Settings


class OnePart(up.Up):
    """A server whose only part fails, or ends, or goes on until a signal comes."""

    def __init__(self, data_dir: Path, how: str) -> None:
        super().__init__(Settings(data_dir=data_dir, port=0))
        self._how = how

    async def _with_servers(self, folder: DataFolder, listener: socket.socket) -> None:
        self.forever("part", self._part())
        self.serving = True
        await asyncio.wait_for(self.signalled.wait(), 10)

    async def _part(self) -> None:
        if self._how == "fails":
            raise RuntimeError("broken")
        if self._how == "is signalled":
            self._signal()
            await asyncio.Event().wait()


@pytest.mark.parametrize(("how", "code"), [("fails", 1), ("ends", 1), ("is signalled", 0)])
async def test_a_server_stops_with_exit_code_1_when_a_vital_part_dies(
    tmp_path: Path, how: str, code: int
) -> None:
    assert await OnePart(tmp_path / "data", how).run() == code


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("127.0.0.5", False), ("0.0.0.0", True)])
def test_a_listener_that_others_reach_is_warned_of(host: str, warned: bool) -> None:
    with socket.socket() as listener:
        listener.bind((host, 0))
        said = listeners.exposed(listener)
    assert (said is not None) is warned
    assert said is None or (host in said and "run code" in said)


def test_why_no_trigger_can_fire_says_what_to_do() -> None:
    assert "without --no-s3" in str(up._no_triggers(None, wanted=False))
    assert "http://s3:1" in str(up._no_triggers("http://s3:1", wanted=True))
    assert "AWS_ENDPOINT_URL_S3" in str(up._no_triggers("http://s3:1", wanted=True))
