"""A server that is stopped while it makes its network ready leaves nothing of it on the host."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

from support import require

from lambent.executor.drivers.base import DriverConfig
from lambent.executor.drivers.sandbox.egress_addresses import table_name
from lambent.executor.drivers.sandbox.network import SandboxNetwork

MOMENTS = 40


async def test_a_stop_at_any_moment_of_the_start_leaves_no_table(tmp_path: Path) -> None:
    require("root", os.geteuid() == 0, "only root loads a packet filter: run the tests as root")
    nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    require("nft", nft, "apt-get install nftables")
    stopped, names = 0, []
    for number in range(MOMENTS):
        config = DriverConfig(tmp_path / str(number), f"stopped-{os.getpid()}-{number}", 1_950_000, 64)
        config.state_dir.mkdir()
        network = SandboxNetwork(config)
        names.append(table_name(config.instance))
        opening = asyncio.ensure_future(network.open())
        await asyncio.sleep(number * 0.001)
        opening.cancel()
        try:
            await opening
        except asyncio.CancelledError:
            stopped += 1
        else:
            await network.close()
    assert stopped, "none of them was stopped on the way"
    listed = subprocess.run([str(nft), "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert [name for name in names if name in listed] == []
