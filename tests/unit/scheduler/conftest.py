"""Lanes over a queue in memory, for each test its own."""

from collections.abc import AsyncIterator

import pytest
from unit.scheduler.lane_world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    made.tasks.forever("feed", made.feed.run())
    yield made
    await made.tasks.drain(0)
