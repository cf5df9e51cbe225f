"""Keeps what is carved out of the account's pool as the function store has it, since a process can die between
the two writes."""

from collections.abc import Mapping

from lambent.kernel.ports import AccountBlocks, Clock, FunctionStore

_PAGE = 100


class Reservations:
    """`step` at a start and then now and then, by one scheduler. A difference is mended when it was there the
    last time too: it may be a change that is just being made."""

    def __init__(self, store: FunctionStore, blocks: AccountBlocks, clock: Clock) -> None:
        self._store = store
        self._blocks = blocks
        self._clock = clock
        self._before: Mapping[str, int | None] | None = None

    async def step(self) -> int:
        """How many were mended. Raises LambdaError."""
        wanted: dict[str, int] = {}
        after: str | None = None
        while rows := await self._store.page(after=after, limit=_PAGE):
            for function in rows:
                slots = function.carved
                if slots is not None:
                    wanted[function.uid] = slots
            after = rows[-1].name
        have = await self._blocks.reserved()
        differences: dict[str, int | None] = {
            uid: wanted.get(uid) for uid in {*wanted, *have} if wanted.get(uid) != have.get(uid)
        }
        mended = 0
        for uid, slots in differences.items():
            first = self._before is None and uid not in have  # at a start nothing is under way here
            if first or (self._before is not None and uid in self._before and self._before[uid] == slots):
                await self._blocks.reserve(uid, slots)
                mended += 1
        self._before = differences
        return mended
