"""An image that was removed from the cache and is unpacked again is what new environments are made of."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from driver_support import read_line
from images import as_aws_makes_them

from lambent.executor.drivers.base import DriverConfig, EnvironmentSpec
from lambent.executor.drivers.sandbox.driver import SandboxDriver
from lambent.executor.image_cache import ImageCache
from lambent.kernel.models import ImageUse


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SandboxDriver]:
    config = DriverConfig(tmp_path / "state", f"image-{os.getpid()}", 1_750_000, 64, parked_slots=0)
    made = SandboxDriver(config, None)
    await made.open()
    yield made
    await made.close()


async def test_an_image_that_was_collected_runs_again(driver: SandboxDriver, tmp_path: Path) -> None:
    image = as_aws_makes_them({"said": b"here\n"})
    use = ImageUse(f"oci-layout:{image.write(tmp_path / 'layout')}:latest", image.manifest["digest"])
    cache = ImageCache(tmp_path / "cache")
    await cache.open()
    for number in range(3):
        unpacked = await cache.acquire(use)
        spec = EnvironmentSpec(
            f"e{number}",
            ["/bin/sh", "-c", "read said < /var/task/said; echo $said"],
            {},
            None,
            tmp_path,
            None,
            (),
            256,
            512,
            root=unpacked.path,
        )
        sandbox = await driver.start(spec)
        assert await read_line(sandbox) == "here"
        await asyncio.wait_for(asyncio.shield(sandbox.exited), 20)
        await sandbox.dispose()
        unpacked.release()
        assert await cache.collect(0) == 1
    spawner = driver._spawner
    assert spawner is not None
    text = Path(f"/proc/{spawner.pid}/mountinfo").read_text()
    assert text.count("//deleted") <= 1, "what was removed is not kept mounted"
