"""What every destination is: a call that sends one outcome, and two ways to fail. One file per kind of target
implements it."""

from collections.abc import Awaitable, Callable

from lambent.kernel.events import OutcomeRecord
from lambent.kernel.targets import Target

Send = Callable[[OutcomeRecord, Target], Awaitable[None]]
"""Returns when the target has taken it. Raises DeliveryFailed."""


FunctionArn = Callable[[OutcomeRecord], str]
"""The ARN of the function that ran, with the qualifier that was invoked."""


class DeliveryFailed(Exception):
    """The target did not take it. `final`: it never will take this one."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.final = final
