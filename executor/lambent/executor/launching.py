"""Making environments: what is fetched, which command runs, with which variables; apart from the host, which
decides when, and for whom.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lambent.executor import extension_start, image_start, limits, log_lines, variables
from lambent.executor.drivers.base import EnvironmentSpec, Sandbox, Share, Snapshot
from lambent.executor.environment import Environment
from lambent.executor.environment_states import Owner
from lambent.executor.function_log import Facts, FunctionLog
from lambent.executor.image_cache import ImageCache, Unpacked, extensions_of
from lambent.executor.meter import Meter
from lambent.executor.restore import INIT_SECONDS, Restore
from lambent.executor.runtimes import entrypoint
from lambent.executor.runtimes.family import TASK_ROOT
from lambent.executor.runtimes.registry import RuntimeCommand, Runtimes
from lambent.executor.trees import Tree, Trees
from lambent.kernel.arn import runtime_version_arn
from lambent.kernel.errors import InvalidRuntimeException, LambdaError, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.models import FunctionVersion
from lambent.kernel.ports import Clock, LogStore
from lambent.kernel.shares import Shared
from lambent.kernel.tasks import Tasks

_log = Log(__name__)


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What the wiring tells a host. Memory in MB, times in seconds. `endpoints`: AWS_ENDPOINT_URL* that
    functions get; `starts_at_once` bounds the cold starts under way (more only make each other slow);
    `cache_mb` the unpacked code that is kept though nothing uses it."""

    region: str
    account_id: str
    memory_mb: int
    keep_alive: float
    freeze_after: float
    credentials: variables.Credentials
    endpoints: Mapping[str, str] = field(default_factory=dict)
    starts_at_once: int = 4
    cache_mb: int = 4096
    file_systems: Mapping[str, Shared] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What an environment is made for. `tags` for the ledger; `restore`: of a SnapStart version; `snapshot`:
    what it is restored from, if it can be."""

    owner: Owner
    tags: Mapping[str, str] = field(default_factory=dict)
    provisioned: bool = False
    restore: Restore | None = None
    snapshot: Snapshot | None = None


@dataclass(slots=True)
class Launcher:
    """`start`: has the driver start it."""

    config: HostConfig
    trees: Trees
    runtimes: Runtimes
    logs: LogStore
    meter: Meter
    clock: Clock
    tasks: Tasks
    start: Callable[[EnvironmentSpec], Awaitable[Sandbox]]
    images: ImageCache

    def command(self, target: FunctionVersion) -> RuntimeCommand:
        """Raises InvalidRuntimeException."""
        if target.image is not None:  # which says the rest when it is there
            version = f"image:{target.image.digest.removeprefix('sha256:')[:12]}"
            return RuntimeCommand((), (), Path("/nonexistent"), {}, version)
        problem, _ = self.runtimes.problem(target.runtime)
        if problem is not None:
            raise InvalidRuntimeException(problem)
        return self.runtimes.command(target.runtime, target.handler, target.memory_size)

    def environment(self, target: FunctionVersion, command: RuntimeCommand, asked: Asked) -> Environment:
        """A new one, not started."""
        environment_id = uuid.uuid4().hex
        stream = log_lines.stream_name(target, environment_id, self.clock.now())
        facts = Facts(
            environment_id,
            command.version_text,
            runtime_version_arn(region=self.config.region, runtime=target.runtime),
            variables.initialization(target, asked.provisioned),
        )

        async def launch() -> Sandbox:
            return await self._launch(environment, command, stream, asked)

        environment = Environment(
            environment_id,
            target,
            launch=launch,
            owner=asked.owner,
            clock=self.clock,
            log=FunctionLog(target, facts, logs=self.logs, stream=stream, clock=self.clock),
            tasks=self.tasks,
            meter=self.meter,
            tags=asked.tags,
            freeze_after=self.config.freeze_after,
            restore=asked.restore,
        )
        if asked.restore is not None:
            environment.init_seconds = max(INIT_SECONDS, target.timeout)
        elif asked.provisioned:
            environment.init_seconds = limits.PROVISIONED_INIT_SECONDS
        return environment

    async def fetched(self, target: FunctionVersion) -> EnvironmentSpec | None:
        """Has the code unpacked; what will be started for it, or None if that cannot be: the first invocation
        will have the reason. Raises LambdaError for code that cannot be unpacked."""
        task, opt = code = await self._fetch(target)
        try:
            return self._spec("expected", target, self.command(target), code)[0]
        except (LambdaError, entrypoint.NotStartable) as failure:
            why = str(failure)
            _log.debug("A function's environments cannot be made ready.", function=target.name, why=why)
            return None
        finally:
            task.release()
            if opt is not None:
                opt.release()

    async def _fetch(self, target: FunctionVersion) -> tuple[Tree | Unpacked, Tree | None]:
        if target.image is not None:
            return await self.images.acquire(target.image), None
        task = await self.trees.acquire(target.archive)
        try:
            opt = await self.trees.acquire_opt([layer.archive for layer in target.layers])
        except BaseException:
            task.release()
            raise
        return task, opt

    def _shares(self, target: FunctionVersion) -> list[Share]:
        """Raises ServiceException for an access point that this executor has no folder for."""
        made = []
        for each in target.file_systems or ():
            shared = self.config.file_systems.get(each.access_point)
            if shared is None or not shared.folder.is_dir():
                why = (
                    "is not named in LAMBENT_FILE_SYSTEMS"
                    if shared is None
                    else f"{shared.folder} is no folder"
                )
                raise ServiceException(
                    f"{each.path} cannot be mounted: {each.access_point}: {why} on this executor."
                )
            made.append(Share(shared.folder, each.path, shared.read_only))
        return made

    def _spec(
        self,
        environment_id: str,
        target: FunctionVersion,
        command: RuntimeCommand,
        code: tuple[Tree | Unpacked, Tree | None],
        *,
        stream: str = "",
        provisioned: bool = False,
    ) -> tuple[EnvironmentSpec, Sequence[str]]:
        """What to start for this code and these layers; the names of the external extensions in it. Raises
        LambdaError, NotStartable."""
        task, opt = code
        cwd = TASK_ROOT
        if isinstance(task, Unpacked):
            assert target.image is not None
            words, cwd = image_start.started(target.image, task)
            env = dict(task.image.environment)
            command = replace(command, argv=words, env=env, root=task.path)
        opt_dir = opt.path if opt is not None else None
        wrapper = (target.environment or {}).get("AWS_LAMBDA_EXEC_WRAPPER")
        if not isinstance(task, Unpacked):
            command = entrypoint.resolve(command, task.path, opt_dir, wrapper=wrapper)
        external = extensions_of(task.path) if isinstance(task, Unpacked) else extension_start.external(opt_dir)
        if external and command.root is not None:
            raise ServiceException(
                "External extensions are not started in images here, and this function has some: "
                f"{', '.join(external)}."
            )
        if external:
            argv, prefixes = extension_start.command(command, external)
            command = replace(command, argv=argv, prefixes=prefixes, fork_env=None, ahead_env=None)
        made = EnvironmentSpec(
            id=environment_id,
            argv=command.argv,
            env=variables.build(
                target,
                runtime=command.env,
                region=self.config.region,
                log_stream=stream,
                credentials=self.config.credentials,
                endpoints=self.config.endpoints,
                provisioned=provisioned,
            ),
            task_dir=None if isinstance(task, Unpacked) else task.path,
            runtime_dir=command.runtime_dir,
            opt_dir=opt_dir,
            prefixes=command.prefixes,
            memory_mb=target.memory_size,
            ephemeral_mb=target.ephemeral_storage,
            fork_env=command.fork_env,
            ahead_env=command.ahead_env,
            root=command.root,
            cwd=cwd,
            shares=self._shares(target),
        )
        return made, external

    async def _launch(
        self, environment: Environment, command: RuntimeCommand, stream: str, asked: Asked
    ) -> Sandbox:
        target = environment.target
        task, opt = code = await self._fetch(target)
        try:
            spec, environment.external = self._spec(
                environment.id, target, command, code, stream=stream, provisioned=asked.provisioned
            )
            sandbox = await self.start(
                replace(
                    spec,
                    snapshot=asked.snapshot,
                    template=asked.restore is not None and asked.restore.template,
                )
            )
        except BaseException as failure:
            if isinstance(failure, entrypoint.NotStartable) and failure.line:
                environment.log.not_launched(failure.line)
            task.release()
            if opt is not None:
                opt.release()
            raise

        def released(_: object) -> None:
            task.release()
            if opt is not None:
                opt.release()

        sandbox.exited.add_done_callback(released)
        return sandbox
