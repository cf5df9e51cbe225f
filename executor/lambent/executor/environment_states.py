"""What an environment can be, and what it tells its host."""

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from lambent.executor import limits
from lambent.executor.execution import Execution
from lambent.kernel.models import Report, Response

if TYPE_CHECKING:
    from lambent.executor.environment import Environment


class EnvironmentState(StrEnum):
    STARTING = "starting"
    IDLE = "idle"
    FROZEN = "frozen"
    BUSY = "busy"
    INIT_FAILED = "init_failed"
    DEAD = "dead"


class Owner(Protocol):
    """What an environment tells its host."""

    def environment_answered(self, environment: "Environment") -> None:
        """The response is out; the runtime asks for the next event in a moment, or dies."""

    def environment_idle(self, environment: "Environment") -> None: ...

    def environment_gone(self, environment: "Environment") -> None:
        """It is dead and must not be used; `dispose` frees it."""

    def execution_ended(self, environment: "Environment", execution: Execution, report: Report) -> None: ...


class InitFailed(Exception):
    """Init did not end in `next`; carries the status for INIT_REPORT and the answer for the caller."""

    def __init__(self, status: str, response: Response) -> None:
        super().__init__(status)
        self.status = status
        self.response = response

    @property
    def message(self) -> str:
        """For a person."""
        return limits.error_message(self.response)


class TooMany(asyncio.Protocol):
    """A connection over the bound: hung up on at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
