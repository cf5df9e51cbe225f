"""How an environment of a SnapStart version gets ready: restored from the snapshot, or started, in which case
its runtime's wait for a restore is over at once; and the template, of which the snapshot is taken, which waits
there for good. AWS: "Runtime hooks for Lambda SnapStart", GET /runtime/restore/next.
"""

from lambent.executor.drivers.base import Sandbox
from lambent.executor.environment_states import InitFailed
from lambent.executor.function_log import FunctionLog
from lambent.executor.runtime_api import Answer, refusal
from lambent.kernel.errors import LambdaError, SnapStartException, SnapStartTimeoutException

NEXT = "/2018-06-01/runtime/restore/next"
SECONDS = 10.0  # AWS: for the restore and the runtime's hooks
INIT_SECONDS = 130.0  # AWS: for the init before a snapshot, or the function's timeout if that is longer
_GO_ON = Answer(200, b"")


class Restore:
    """Of one environment. `asked`: its runtime's init is over, hooks before the snapshot too."""

    def __init__(self, *, template: bool) -> None:
        self.template = template
        self.restored = self.asked = False
        self._greeted = False

    def begun(self, sandbox: Sandbox, log: FunctionLog, seconds: float) -> float:
        """Its process is there; how long it may take to be ready. `seconds`: that of an init."""
        self.restored = self.asked = sandbox.start == "restored"
        self._greeted = False
        if not self.restored:
            log.init_started("init")
            return seconds
        log.restore_started()
        return SECONDS

    def greeting(self) -> Answer | None:
        """For a new connection: the first one of what was restored waits for this answer, which was asked for
        on another, before the snapshot."""
        if not self.restored or self._greeted:
            return None
        self._greeted = True
        return _GO_ON

    def next(self, *, initialising: bool) -> Answer | None:
        """The runtime asks for its restore. None: it waits."""
        if not initialising or self.asked:
            return refusal(403, "InvalidStateTransition", "The runtime was restored before.")
        self.asked = True
        return None if self.template else _GO_ON

    def failed(self, failure: InitFailed) -> LambdaError | None:
        """What an invocation gets when the part after the snapshot has failed; None: it was the init."""
        if self.template or not self.asked:
            return None
        if failure.status == "timeout":
            return SnapStartTimeoutException(f"The function was not restored within {SECONDS:.0f} seconds.")
        return SnapStartException(f"The restore of the function failed: {failure.message}")
