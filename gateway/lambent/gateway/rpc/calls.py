"""What every RPC has in common: who may ask, a request id, AWS's errors as google.rpc's, and that a client
which goes away stops nothing.

grpc.aio cancels a handler when its client has gone or its deadline has passed. The work runs in a task of its
own, so that no half of an operation is ever left, and an invocation goes on as on AWS.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc

from lambent.gateway.invoke import new_request_id
from lambent.gateway.rpc.status import DETAILS, refusal
from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_T = TypeVar("_T")

Context = grpc.aio.ServicerContext[Any, Any]
Headers = Sequence[tuple[bytes, bytes]]
Authorise = Callable[[Headers], None]
"""The hook that HTTP requests pass too: metadata as headers; raises AccessDeniedException."""


class Calls:
    """For all services of one server."""

    def __init__(self, tasks: Tasks, authorise: Authorise) -> None:
        self._tasks = tasks
        self._authorise = authorise

    def begin(self, context: Context) -> "Rpc":
        """An RPC that has come in."""
        return Rpc(self._tasks, self._authorise, context)


class Rpc:
    """One RPC. `request_id` is its trailing metadata's; `trailing` takes more of it."""

    __slots__ = ("_authorise", "_tasks", "context", "request_id", "trailing")

    def __init__(self, tasks: Tasks, authorise: Authorise, context: Context) -> None:
        self._tasks = tasks
        self._authorise = authorise
        self.context = context
        self.request_id = new_request_id()
        self.trailing: list[tuple[str, str | bytes]] = [("x-amzn-requestid", self.request_id)]

    async def run(
        self, operation: str, work: Callable[[], Awaitable[_T]], *, gone: Callable[[], None] | None = None
    ) -> _T:
        """The result of `work`, which goes on if the client goes away; `gone` is called then. Ends the RPC with
        a status where it raises."""
        task = self._tasks.once(operation, self._outcome(operation, work))
        try:
            result, failure = await asyncio.shield(task)
        except asyncio.CancelledError:
            if gone is not None:
                gone()
            raise
        if failure is not None:
            await self.refuse(failure, operation)
        self.context.set_trailing_metadata(tuple(self.trailing))
        assert result is not None
        return result

    async def _outcome(
        self, operation: str, work: Callable[[], Awaitable[_T]]
    ) -> tuple[_T | None, LambdaError | None]:
        try:
            self.check()
            return await work(), None
        except LambdaError as failure:
            return None, failure
        except Exception as failure:
            return None, self.unforeseen(operation, failure)

    def check(self) -> None:
        """Raises AccessDeniedException."""
        metadata = self.context.invocation_metadata() or ()
        self._authorise(
            [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in metadata]
        )

    def unforeseen(self, operation: str, failure: Exception) -> ServiceException:
        """The platform's own fault: its log has the reason, the client a request id to ask for."""
        _log.error("An RPC failed.", request_id=self.request_id, operation=operation, exc_info=failure)
        return ServiceException(
            f"The server failed. Its log has the reason under request id {self.request_id}."
        )

    async def refuse(self, failure: LambdaError, operation: str) -> None:
        """Ends the RPC; raises grpc's own error."""
        refused = refusal(failure, operation)
        trailing = (*self.trailing, (DETAILS, refused.status))
        await self.context.abort(refused.code, refused.message, trailing)

    def header(self, wanted: str) -> str | None:
        """The first value of a metadata key."""
        for name, value in self.context.invocation_metadata() or ():
            if name == wanted:
                return value.decode("latin-1") if isinstance(value, bytes) else value
        return None
