"""Brings usage records from the spool to the ledger, in order and once: this run's each second, and first those
of runs that were killed."""

import asyncio
import os
from pathlib import Path

from lambent.executor import spool as spools
from lambent.executor.spool import Spool
from lambent.kernel import metrics
from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock, UsageLedger
from lambent.kernel.usage import UsageBatch

_log = Log(__name__)
_EVERY_SECONDS = 1.0
_LAST_SECONDS = 5.0


class Shipping:
    """`root`: the folder of all runs' spools of this machine, which one process at a time may use."""

    def __init__(self, root: Path, spool: Spool, ledger: UsageLedger, clock: Clock) -> None:
        self._root = root
        self._spool = spool
        self._ledger = ledger
        self._clock = clock
        self._batch: UsageBatch | None = None
        self._mark = 0
        self._since: float | None = None  # when the oldest record that is not shipped was taken
        self._troubled = False
        self._closed = False
        self._shipping = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled or closed. A ledger that does not answer is tried again each second; what was
        executed lies in the spool meanwhile."""
        left = True
        while not self._closed:
            self._spool.flush()
            try:
                if left:
                    await self._ship_left()
                    left = False
                await self._ship()
                self._troubled = False
            except (LambdaError, OSError) as failure:
                self._say(failure)
            self._measure()
            await self._clock.sleep(_EVERY_SECONDS)

    def _say(self, failure: Exception) -> None:
        if not self._troubled:
            _log.warning("Usage is not in the ledger yet; it is kept and sent again.", why=str(failure))
        self._troubled = True

    def _measure(self) -> None:
        waits = 0.0 if self._since is None else self._clock.monotonic() - self._since
        metrics.ledger_lag.set(waits)

    async def _ship(self) -> None:
        """This run's. Raises LambdaError."""
        async with self._shipping:
            while True:
                if self._batch is None:
                    self._batch = self._spool.take()
                if self._batch is None:
                    self._since = None
                    return
                if self._since is None:
                    self._since = self._clock.monotonic()
                self._mark = await self._add(self._batch, self._mark)
                self._spool.shipped(self._batch.last)
                self._batch = None

    async def _add(self, batch: UsageBatch, after: int) -> int:
        mark = await self._ledger.add(batch, after=after)
        if mark == batch.last:
            return mark
        if mark > batch.last or mark >= batch.first:
            raise ServiceException(
                f"the ledger has records of executor {batch.executor} up to {mark}, and this batch is "
                f"{batch.first} to {batch.last}: two processes use one executor's id"
            )
        # It has lost what it had (an older copy took over): what lies between counts as missing.
        _log.error("The usage ledger has lost records.", executor=batch.executor, mark=mark, was=after)
        return await self._ledger.add(batch, after=mark)

    async def _ship_left(self) -> None:
        """What killed runs left. Raises LambdaError, OSError."""
        for name in await asyncio.to_thread(lambda: sorted(os.listdir(self._root))):
            folder = self._root / name
            if name == self._spool.executor:
                continue
            mark = await self._ledger.mark(name)
            batches = spools.read_batches(folder, after=mark)
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                mark = await self._add(batch, mark)
            await asyncio.to_thread(spools.remove, folder)
            _log.info("The usage of a run that was killed is in the ledger.", executor=name, records=mark)

    async def close(self) -> None:
        """Ships the rest; what the ledger does not take now stays for the next run."""
        self._closed = True
        self._spool.close()
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._ship()
            self._spool.remove(self._mark)
        except (LambdaError, OSError, TimeoutError) as failure:
            _log.warning("Some usage goes to the ledger at the next start.", why=str(failure) or "it is slow")
