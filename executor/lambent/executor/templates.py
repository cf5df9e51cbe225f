"""The snapshots of SnapStart versions: made by starting an environment of the version, running its init and
keeping what it is then; environments are restored from it. AWS: "Improving startup performance with Lambda
SnapStart".

What cannot be kept (its init has started a thread, say) is told in the function's log, and its environments are
started as any, hooks and all. A snapshot that got lost (it is good only for forks of one zygote) is made again
while starts do without.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from lambent.executor.drivers.base import Driver, NoSnapshot, Snapshot
from lambent.executor.environment import Environment
from lambent.executor.environment_states import EnvironmentState, InitFailed
from lambent.executor.execution import Execution
from lambent.kernel.errors import LambdaError, SnapStartException, SnapStartTimeoutException
from lambent.kernel.log import Log
from lambent.kernel.models import FunctionVersion, Report, VersionKey
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

_MOST_BYTES = 2 << 30  # of all snapshots together: the least recently used goes


@dataclass(slots=True, eq=False)
class _Template:
    """One version's. `snapshot` None: there is none (yet); `refused`: and there will be none."""

    snapshot: Snapshot | None = None
    refused: bool = False
    making: "asyncio.Task[LambdaError | None] | None" = None


class TemplateOwner:
    """Of an environment that never gets an invocation: there is nothing to do."""

    def environment_answered(self, environment: Environment) -> None:
        raise RuntimeError("a template was given an invocation")

    def environment_idle(self, environment: Environment) -> None:
        """It waits to be kept."""

    def environment_gone(self, environment: Environment) -> None:
        """Who made it disposes of it."""

    def execution_ended(self, environment: Environment, execution: Execution, report: Report) -> None:
        raise RuntimeError("a template was given an invocation")


@dataclass(slots=True)
class Templates:
    """All of one executor. `make`: a new environment of a version, not started, that stops in its restore."""

    driver: Driver
    tasks: Tasks
    make: Callable[[FunctionVersion], Environment]
    _kept: dict[VersionKey, _Template] = field(default_factory=dict)

    def snapshot(self, target: FunctionVersion) -> Snapshot | None:
        """What to restore an environment of the version from; None: start one. If it can be had, it is made."""
        if not target.restores:
            return None
        template = self._kept.get(target.key) or _Template()
        found = template.snapshot
        if found is not None and found.alive:
            self._kept[target.key] = self._kept.pop(target.key)  # it was used last
            return found
        if not template.refused and template.making is None:
            self.tasks.once(f"snapshot of {target.name}", self._make_again(target))
        return None

    async def prepare(self, target: FunctionVersion) -> None:
        """Has a snapshot made, or finds that there can be none. Raises SnapStartException,
        SnapStartTimeoutException for an init that fails."""
        template = self._kept.setdefault(target.key, _Template())
        if template.refused or (template.snapshot is not None and template.snapshot.alive):
            return
        if template.making is None:
            template.making = self.tasks.once(f"make a snapshot of {target.name}", self._make(target, template))
        failure = await asyncio.shield(template.making)
        if failure is not None:
            raise failure

    async def _make_again(self, target: FunctionVersion) -> None:
        try:
            await self.prepare(target)
        except LambdaError as failure:
            _log.warning("A snapshot could not be made again.", function=target.name, why=failure.message)

    async def _make(self, target: FunctionVersion, template: _Template) -> LambdaError | None:
        """What failed, which is the function's own affair."""
        environment: Environment | None = None
        try:
            environment = self.make(target)
            await environment.start()
            if environment.state is EnvironmentState.INIT_FAILED:
                template.refused = True
                return _failed(environment.init_failure)
            self.forget(target.key, keep=template)
            try:
                template.snapshot = await self.driver.snapshot(environment.kept())
            except NoSnapshot as refusal:
                template.refused = True
                why = str(refusal)
                environment.log.no_snapshot(why)
                _log.info("A version has no snapshot.", function=target.name, version=target.version, why=why)
            except LambdaError as failure:  # the platform's: its environments are started, until a later try
                environment.log.no_snapshot(failure.message)
                _log.warning("A snapshot failed.", function=target.name, why=failure.message)
        except LambdaError as failure:  # it could not be started
            return failure
        finally:
            template.making = None
            if environment is not None:
                await environment.dispose()
        if self._kept.get(target.key) is not template and template.snapshot is not None:
            self.driver.drop(template.snapshot)  # the version has gone meanwhile
            template.snapshot = None
        self._limit()
        return None

    def _limit(self) -> None:
        """The least recently used go while all together are too large."""
        size = sum(each.snapshot.size for each in self._kept.values() if each.snapshot is not None)
        for template in list(self._kept.values())[:-1]:
            if size <= _MOST_BYTES:
                return
            if template.snapshot is not None:
                size -= template.snapshot.size
                self.driver.drop(template.snapshot)
                template.snapshot = None

    def forget(self, key: VersionKey, *, keep: _Template | None = None) -> None:
        """Nothing is restored from that version's any more; `keep`: but it is made anew."""
        template = self._kept.get(key)
        if template is not None and template.snapshot is not None:
            self.driver.drop(template.snapshot)
            template.snapshot = None
        if keep is None:
            self._kept.pop(key, None)

    def forget_function(self, uid: str, version: str | None, keep: VersionKey | None) -> None:
        for key in list(self._kept):
            if key.uid == uid and key != keep and version in (None, key.version):
                self.forget(key)


def _failed(failure: InitFailed | None) -> LambdaError:
    if failure is None:
        return SnapStartException("The init of the version failed.")
    if failure.status == "timeout":
        return SnapStartTimeoutException("The init of the version took too long.")
    return SnapStartException(f"The init of the version failed: {failure.message}")
