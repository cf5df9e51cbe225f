"""An event loop whose time jumps to the next timer, because hours of a cluster must pass in a minute, and the
same each time."""

import asyncio
import selectors


class Stuck(AssertionError):
    """Nothing is due, and nothing ever will be."""


class _NoWaiting(selectors.SelectSelector):
    """Instead of waiting, time moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("every task waits for something that cannot come")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Seconds since its start, of no clock at all."""

    def __init__(self) -> None:
        self._jumping = _NoWaiting()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now
