"""A role finds out at its start whether its blob store is the others'."""

import asyncio

import pytest

from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.blobs.probe import MARK, check_shared, name_of
from lambent.kernel.errors import ServiceException
from lambent.kernel.store.memory import MemoryStore

OTHER = "not the one that the other roles use.* LAMBENT_BLOBS"


class Slow(MemoryStore):
    """Two starters see that there is no mark before either sets one."""

    def __init__(self) -> None:
        super().__init__()
        self._both = asyncio.Barrier(2)

    async def mark_get(self, key: str) -> str | None:
        found = await super().mark_get(key)
        await self._both.wait()
        return found


async def probes(blobs: MemoryBlobs) -> list[str]:
    return list(await blobs.named(untouched_seconds=0))


async def test_the_first_writes_and_the_next_ones_read() -> None:
    blobs, marks = MemoryBlobs(), MemoryStore()
    await check_shared(blobs, marks)
    noted = await marks.mark_get(MARK)
    assert noted is not None
    for _ in range(2):
        await check_shared(blobs, marks)
    assert await marks.mark_get(MARK) == noted
    assert await probes(blobs) == [name_of(noted)]


async def test_another_store_is_told_with_the_setting() -> None:
    marks = MemoryStore()
    await check_shared(MemoryBlobs(), marks)
    other = MemoryBlobs()
    for _ in range(2):
        with pytest.raises(ServiceException, match=OTHER):
            await check_shared(other, marks)
    assert await probes(other) == []


async def test_a_store_of_another_installation_is_told() -> None:
    """It has a probe object too, but not this one."""
    other = MemoryBlobs()
    await check_shared(other, MemoryStore())
    marks = MemoryStore()
    await check_shared(MemoryBlobs(), marks)
    with pytest.raises(ServiceException, match=OTHER):
        await check_shared(other, marks)


@pytest.mark.parametrize("alone", [False, True])
async def test_other_bytes_under_the_name_are_told(alone: bool) -> None:
    blobs, marks = MemoryBlobs(), MemoryStore()
    await check_shared(blobs, marks)
    await blobs.put_named((await probes(blobs))[0], b"other")
    with pytest.raises(ServiceException, match=OTHER):
        await check_shared(blobs, marks, alone=alone)


async def test_two_first_starters_agree() -> None:
    blobs, marks = MemoryBlobs(), Slow()
    await asyncio.gather(check_shared(blobs, marks), check_shared(blobs, marks))
    assert len(await probes(blobs)) == 1
    await asyncio.gather(check_shared(blobs, marks), check_shared(blobs, marks))


async def test_of_two_first_starters_with_two_stores_one_is_told() -> None:
    marks = Slow()
    ends = await asyncio.gather(
        check_shared(MemoryBlobs(), marks), check_shared(MemoryBlobs(), marks), return_exceptions=True
    )
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "ServiceException"]


async def test_a_server_that_has_all_roles_starts_with_a_folder_that_was_moved() -> None:
    """And leaves the mark as it is: roles with the old store still agree."""
    old, new, marks = MemoryBlobs(), MemoryBlobs(), MemoryStore()
    await check_shared(old, marks, alone=True)
    await check_shared(new, marks, alone=True)
    await check_shared(new, marks)
    await check_shared(old, marks)
