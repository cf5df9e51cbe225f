"""Environments whose runtimes the tests play."""

from collections.abc import AsyncIterator, Callable

import pytest
from staging import Stage


@pytest.fixture
async def staged() -> AsyncIterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(**options: object) -> Stage:
        stages.append(Stage(**options))  # type: ignore[arg-type]
        return stages[-1]

    yield make
    for stage in stages:
        await stage.environment.dispose()
        await stage.tasks.drain(1)
        for client in stage.clients:
            client.close()
