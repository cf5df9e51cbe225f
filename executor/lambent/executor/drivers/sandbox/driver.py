"""The `sandbox` driver: environments from Linux namespaces, control groups and a system call filter,
without any helper program. It decides what this host can do (once, by really making an environment) and
falls back step by step; the forking is the spawner's, the inside `contain`'s, freeing `running`'s.

Start, in order: an outside uid; /tmp image and groups; the spawner forks; while the process builds its file
system the driver moves it into its groups and attaches its network; then "go", and the runtime is executed.
A slot is made in the same way, by a zygote, and after "go" it waits for its function: `parking` keeps some.
"""

import asyncio
import fcntl
import os
import resource
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambent.executor.drivers.base import AHEAD, DriverConfig, EnvironmentSpec, NoRoom, Sandbox, Snapshot
from lambent.executor.drivers.sandbox import cgroups, contain, ephemeral, facts, sampler, seccomp, wire
from lambent.executor.drivers.sandbox.netport import Network
from lambent.executor.drivers.sandbox.parking import Parking, Refused
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.executor.drivers.sandbox.snapshotting import Snapshots, Taken
from lambent.executor.drivers.sandbox.spawning import (
    ForkingProcess,
    SpawnerProcess,
    ZygoteProcess,
    next_message,
)
from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.models import Enforcement
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

_MB = 1 << 20
_START_SECONDS = 30.0
_RELEASE_SECONDS = 15.0
_PROBE = "probe"
_PROBE_PROGRAMS = ("/bin/true", "/usr/bin/true", "/bin/sh")


@dataclass(slots=True)
class _Abilities:
    """What this host can do, as far as is known; `why` holds the reasons for what it cannot, by name."""

    rootless: bool
    tree: cgroups.Tree | None = None
    images: bool = False
    why: dict[str, str] = field(default_factory=dict)


class SandboxDriver:
    """The driver; see `base.Driver`. `network` None: environments have loopback only."""

    def __init__(self, config: DriverConfig, network: Network | None) -> None:
        self._config = config
        self._network = network
        self._tasks = Tasks("sandbox driver")
        self._sandboxes: dict[str, RunningSandbox] = {}
        self._uids = deque(range(config.uid_base, config.uid_base + config.uid_count))
        self._abilities = _Abilities(rootless=os.geteuid() != 0)
        self._images = ephemeral.Images(config.state_dir)
        self._spawner: SpawnerProcess | None = None
        self._spawning = asyncio.Lock()
        self._parking = Parking(self, config.parked_slots)
        self._snapshots = Snapshots()
        self._lock = -1
        self._open = False

    # ---- opening and closing --------------------------------------------------------------------------

    async def open(self) -> None:
        folder = self._config.state_dir
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "empty").mkdir(exist_ok=True)
        self._take_lock(folder / "lock")
        try:
            for draft in folder.glob("*.draft"):
                draft.unlink()
            if self._network is not None:
                await self._network.open()
            await self._find_out()
        except BaseException:
            await self._shut()
            raise
        self._open = True
        if self._abilities.tree is None or not self._abilities.tree.enforces("memory"):
            self._tasks.forever("memory sampler", sampler.watch(self._sandboxes.values))

    def _take_lock(self, path: Path) -> None:
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = -1
            raise ServiceException(
                f"another server uses {path.parent}: stop it, or give this one a data folder of its own"
            ) from None

    async def _find_out(self) -> None:
        """Makes environments that only exit, with less of each ability that fails, until one works."""
        modes = [True] if os.geteuid() != 0 else [False, True]
        problems: list[str] = []
        for rootless in modes:
            self._abilities = await self._guess(rootless)
            while True:
                problem = await self._probe()
                if problem is None:
                    return
                _log.debug("This host refuses an environment.", rootless=rootless, problem=problem)
                if not self._give_up_on(problem):
                    problems.append(problem)
                    break
            if self._spawner is not None:
                await self._spawner.close()
        raise ServiceException(
            f"this machine cannot isolate functions ({'; '.join(problems)}). Allow user namespaces "
            "(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns), run as root with CAP_SYS_ADMIN, "
            "or set LAMBENT_ISOLATION=none to run without isolation"
        )

    async def _guess(self, rootless: bool) -> _Abilities:
        abilities = _Abilities(rootless)
        try:
            tree = await asyncio.to_thread(cgroups.find, self._config.instance)
            reaped = await asyncio.to_thread(tree.reap)
            if reaped:
                _log.info("Ended environments that an earlier run left.", count=reaped)
            if any(tree.folders()):
                abilities.tree = tree
            else:
                abilities.why["groups"] = "no control group is writable"
        except OSError as error:
            abilities.why["groups"] = str(error)
        problem = "an ordinary user may not mount images" if rootless else self._images.problem()
        abilities.images = problem is None
        if problem is not None:
            abilities.why["images"] = problem
        return abilities

    def _give_up_on(self, problem: str) -> bool:
        """Whether there is an ability left to do without."""
        abilities = self._abilities
        if problem.startswith("/tmp") and abilities.images:
            abilities.images, abilities.why["images"] = False, problem
            return True
        if problem.startswith("control groups") and abilities.tree is not None:
            abilities.tree.remove()
            abilities.tree, abilities.why["groups"] = None, problem
            return True
        return False

    async def _probe(self) -> str | None:
        """Runs a program that does nothing; what failed, or None."""
        program = next((path for path in _PROBE_PROGRAMS if os.access(path, os.X_OK)), _PROBE_PROGRAMS[0])
        empty = self._config.state_dir / "empty"
        argv = [program, "-c", ":"] if program.endswith("sh") else [program]
        spec = EnvironmentSpec(_PROBE, argv, {}, empty, empty, None, (), 128, 512)
        try:
            sandbox = await self._make(spec)
        except (Refused, ServiceException) as error:
            return str(error)
        try:
            end = await asyncio.wait_for(asyncio.shield(sandbox.exited), _START_SECONDS)
        except TimeoutError:
            return f"{program} does not end"
        finally:
            await sandbox.dispose()
        return None if end.code == 0 else f"{program} ended with {end}"

    async def snapshot(self, sandbox: Sandbox) -> Snapshot:
        assert isinstance(sandbox, RunningSandbox)
        return await self._snapshots.take(sandbox)

    def drop(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot, Taken)
        self._snapshots.drop(snapshot)

    def expect(self, spec: EnvironmentSpec) -> None:
        self._parking.expect(spec)

    async def close(self) -> None:
        self._open = False
        await self._parking.stop()
        await self._snapshots.close()
        for sandbox in list(self._sandboxes.values()):
            sandbox.kill()
        await asyncio.gather(*(sandbox.dispose() for sandbox in list(self._sandboxes.values())))
        await self._parking.close()
        await self._shut()

    async def _shut(self) -> None:
        spawner, self._spawner = self._spawner, None
        if spawner is not None:
            await spawner.close()
        await self._tasks.drain(_RELEASE_SECONDS)
        if self._network is not None:
            await self._network.close()
        tree, self._abilities.tree = self._abilities.tree, None
        if tree is not None:
            await asyncio.to_thread(tree.remove)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # ---- starting -------------------------------------------------------------------------------------

    async def start(self, spec: EnvironmentSpec) -> Sandbox:
        if not self._open:
            raise ServiceException("the sandbox driver is not open")
        if any(sandbox.id == spec.id for sandbox in self._sandboxes.values()):
            raise ServiceException(f"environment {spec.id} exists already")
        while True:
            try:
                return await self._parking.start(spec) or await self._make(spec)
            except NoRoom:  # not for more slots, but for this
                if not await self._parking.give_way():
                    raise
            except Refused as error:
                raise ServiceException(f"the environment does not start: {error}") from error

    async def make_slot(self, spec: EnvironmentSpec, zygote: ZygoteProcess | None) -> RunningSandbox:
        """An environment that waits for its function: forked by the zygote, `spec` having its name, the size of
        its /tmp and room for any memory; without one a process of its own, for that memory. Raises Refused,
        NoRoom, ServiceException."""
        return await self._make(spec, zygote, slot=True)

    async def _make(
        self, spec: EnvironmentSpec, zygote: ZygoteProcess | None = None, *, slot: bool = False
    ) -> RunningSandbox:
        if not self._uids:
            raise NoRoom(f"all {self._config.uid_count} uids of environments are in use")
        uid = self._uids.popleft()
        sandbox = RunningSandbox(spec.id, uid, spec.memory_mb * _MB, tasks=self._tasks, release=self._released)
        self._sandboxes[spec.id] = sandbox
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._launch(spec, sandbox, zygote, slot)
        except BaseException as error:
            await sandbox.dispose()
            if isinstance(error, TimeoutError):
                raise Refused(f"it took more than {_START_SECONDS:.0f} s") from error
            raise
        return sandbox

    async def _launch(
        self, spec: EnvironmentSpec, sandbox: RunningSandbox, zygote: ZygoteProcess | None, slot: bool
    ) -> None:
        spawner = await self._running_spawner()
        sandbox.spawner = forker = spawner if zygote is None else zygote
        await self._prepare(spec, sandbox)
        read, write = os.pipe2(os.O_CLOEXEC)
        sandbox.output = read
        os.set_blocking(read, False)
        sandbox.channel, theirs = wire.pair()
        sandbox.channel.setblocking(False)
        # A zygote does not see the machine's devices.
        device = [sandbox.image.hold] if zygote is not None and sandbox.image is not None else []
        waits = slot and zygote is None
        body = wire.body({**self._request(spec, sandbox), **(_waiting(spec) if waits else {})})
        try:
            with theirs:
                forker.start(body, theirs.fileno(), write, *device)
        finally:
            os.close(body)
            os.close(write)
        try:
            await self._accompany(sandbox, sandbox.channel)
            if not slot:
                await self._see_off(spec, sandbox, sandbox.channel)
            elif (parked := await next_message(sandbox.channel)) is None or parked[0].get("step") != "parked":
                why = parked[0].get("error") if parked is not None else sandbox.last_words()
                raise Refused(f"the slot does not wait for its function: {why}")
            elif waits:
                await self._clear(sandbox)
        except BaseException:
            await self._adopt_late(sandbox, sandbox.channel)
            raise

    @staticmethod
    async def _adopt_late(sandbox: RunningSandbox, channel: socket.socket) -> None:
        """A start given up before its processes were known waits until they are, so that they can be freed."""
        while not sandbox.adopted:
            received = await next_message(channel)
            if received is None or "error" in received[0]:
                return
            if received[0]["step"] == "processes":
                sandbox.adopt(received[1][0], received[1][1])
            else:
                for descriptor in received[1]:
                    os.close(descriptor)

    async def _running_spawner(self) -> SpawnerProcess:
        async with self._spawning:
            if self._spawner is None or not self._spawner.alive:
                spawner = SpawnerProcess(
                    self._config.state_dir / "roots",
                    rootless=self._abilities.rootless,
                    exited=self._exited,
                    dying=self._forker_dying,
                    died=self._forker_died,
                )
                await spawner.open()
                self._spawner = spawner
            return self._spawner

    async def _prepare(self, spec: EnvironmentSpec, sandbox: RunningSandbox) -> None:
        """What the process needs before it is forked: its disk and its groups."""
        abilities = self._abilities
        loop = asyncio.get_running_loop()
        if abilities.images:
            # A disk that is full today says nothing about what this host can do: the probe takes no room.
            refusal = self._images.refusal(spec.ephemeral_mb) if spec.id != _PROBE else None
            if refusal is not None:
                raise NoRoom(refusal)
            try:
                with self._images.promise(spec.ephemeral_mb):
                    await _to_end(loop.run_in_executor(None, self._make_image, spec, sandbox))
            except OSError as error:
                raise Refused(f"/tmp: {error}") from error
        if abilities.tree is not None:
            quotas = cgroups.Quotas(spec.memory_mb * _MB, self._config.limits.processes)
            try:
                sandbox.groups = abilities.tree.make(spec.id, quotas)
            except OSError as error:
                raise Refused(f"control groups: {error}") from error

    def _make_image(self, spec: EnvironmentSpec, sandbox: RunningSandbox) -> None:
        sandbox.image = self._images.make(spec.ephemeral_mb)

    def _request(self, spec: EnvironmentSpec, sandbox: RunningSandbox) -> dict[str, Any]:
        """What `spawner`, `contain` and `rootfs` read."""
        rootless = self._abilities.rootless
        return {
            "id": spec.id,
            "argv": list(spec.argv),
            "env": dict(spec.env),
            "prefixes": [str(prefix) for prefix in spec.prefixes],
            "etc": self.etc_files(),
            "task": str(spec.task_dir) if spec.task_dir is not None else None,
            "cwd": spec.cwd,
            "runtime": str(spec.runtime_dir) if spec.root is None else None,
            "root": str(spec.root) if spec.root is not None else None,
            "opt": str(spec.opt_dir) if spec.opt_dir is not None else None,
            "image": sandbox.image.device if sandbox.image is not None else None,
            "ephemeral_mb": spec.ephemeral_mb,
            "shares": [(str(one.source), one.target, one.read_only) for one in spec.shares],
            "uid": 0 if rootless else sandbox.uid,
            "separate_uid": not rootless,
            "rlimits": self._rlimits(spec),
            "sockets": [
                (one.family, one.type, one.host, one.port)
                for one in (self._network.sockets() if self._network is not None else ())
            ],
        }

    def _rlimits(self, spec: EnvironmentSpec) -> dict[str, int]:
        tree, limits = self._abilities.tree, self._config.limits
        wanted = {"CORE": 0, "NOFILE": limits.descriptors}
        if tree is None or not tree.enforces("pids"):
            wanted["NPROC"] = limits.processes
        if tree is None or not tree.enforces("memory"):
            # Only against a leap between two looks of the sampler: thread stacks and reserved heaps count here.
            wanted["DATA"] = 2 * spec.memory_mb * _MB + (1 << 30)
        return wanted

    async def _accompany(self, sandbox: RunningSandbox, channel: socket.socket) -> None:
        """Follows the process from fork to "go". Raises Refused with the step that failed."""
        joining: asyncio.Future[None] | None = None
        ready = False
        try:
            while not (ready and joining is not None and sandbox.listener is not None):
                message, descriptors = await self._step(channel)
                step = message["step"]
                if step == "processes":
                    sandbox.adopt(descriptors[0], descriptors[1])
                    joining = asyncio.get_running_loop().run_in_executor(None, self._join, sandbox)
                elif step == "network":
                    await self._attach(sandbox, descriptors)
                else:
                    sandbox.tmp, ready = descriptors[0], True
                    if sandbox.image is not None:
                        sandbox.image.mounted()
        finally:
            if joining is not None:
                await _to_end(joining)
        try:
            channel.send(b"go")
        except OSError as error:
            raise Refused(f"the process ended before it was told to go: {error}") from error

    async def _see_off(self, spec: EnvironmentSpec, sandbox: RunningSandbox, channel: socket.socket) -> None:
        """Waits until the process is the function's. Raises Refused with the step that failed."""
        last = await next_message(channel)
        if last is not None:
            raise Refused(str(last[0].get("error", last[0])))
        sandbox.hang_up()
        if sandbox.groups is not None:  # only now: the last steps before that are not the function's
            sandbox.cpus = spec.memory_mb / self._config.limits.cpu_mb_per_core
            try:
                sandbox.groups.limit_cpu(max(1.0, sandbox.cpus))
            except OSError as error:  # a parent group has less than one core
                raise Refused(f"control groups: {error}") from error

    async def assign(
        self, spec: EnvironmentSpec, sandbox: RunningSandbox, restored: Taken | None = None
    ) -> None:
        """Makes a slot the function's environment, or what `restored` was taken of. On any failure it is freed.
        Raises Refused, ServiceException."""
        assert self._spawner is not None and sandbox.channel is not None
        channel = sandbox.channel
        sandbox.id, sandbox.memory_limit = spec.id, spec.memory_mb * _MB
        trees = {"/var/task": str(spec.task_dir)}
        if spec.opt_dir is not None:
            trees["/opt"] = str(spec.opt_dir)
        function = {"env": dict(spec.env), "rlimits": self._rlimits(spec)}
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._spawner.mount_trees(trees, channel.fileno(), sandbox.pidfd())
                if sandbox.groups is not None:
                    sandbox.groups.limit_memory(sandbox.memory_limit)
                wire.send(channel, {"function": function, "restore": restored is not None})
                if restored is not None:
                    wire.send(channel, {"memory": restored.size}, [restored.memory])
                await self._see_off(spec, sandbox, channel)
                if restored is not None:
                    await self._snapshots.restore(restored, sandbox)
        except BaseException as error:
            await sandbox.dispose()
            if isinstance(error, OSError):  # a TimeoutError too
                raise Refused(f"the slot was lost: {error}") from error
            raise

    async def _clear(self, sandbox: RunningSandbox) -> None:
        """Takes from a process that waits what lies where its function will. Raises Refused."""
        assert self._spawner is not None
        ours, theirs = wire.pair()
        ours.setblocking(False)
        with ours:
            with theirs:
                self._spawner.unmount_trees(theirs.fileno(), sandbox.pidfd())
            await self._step(ours)

    async def open_zygote(self, spec: EnvironmentSpec, preload: Sequence[str]) -> ZygoteProcess:
        """A zygote for starts like `spec`, with these modules loaded. Raises ServiceException."""
        spawner = await self._running_spawner()
        zygote = ZygoteProcess(exited=self._exited, dying=self._forker_dying, died=self._forker_died)
        await zygote.open(
            spawner,
            {
                "argv": list(spec.argv),
                "env": dict(spec.fork_env or {}),
                "prefixes": [str(prefix) for prefix in spec.prefixes],
                "etc": self.etc_files(),
                "runtime": str(spec.runtime_dir),
                "root": None,
            },
            preload,
        )
        return zygote

    def etc_files(self) -> dict[str, str]:
        """What the network wants in /etc of each environment."""
        return dict(self._network.etc_files()) if self._network is not None else {}

    def holds(self, zygote: ZygoteProcess) -> bool:
        """Whether an environment lives that was forked by it."""
        return any(sandbox.spawner is zygote for sandbox in self._sandboxes.values())

    def needs(self, zygote: ZygoteProcess) -> bool:
        """Whether there are snapshots that only its slots can be made of."""
        return zygote in self._snapshots.zygotes

    @property
    def parked(self) -> int:
        """Slots that wait for a function."""
        return self._parking.parked

    def promised(self) -> int:
        """See `Driver`."""
        return self._images.promised()

    @property
    def spare_uids(self) -> int:
        """Uids that parking may take: half of all are left to starts."""
        return max(0, len(self._uids) - self._config.uid_count // 2)

    @staticmethod
    async def _step(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
        received = await next_message(channel)
        if received is None:
            raise Refused("the process ended while its environment was made")
        message, descriptors = received
        if "error" in message:
            raise Refused(str(message["error"]))
        return message, descriptors

    @staticmethod
    def _join(sandbox: RunningSandbox) -> None:
        if sandbox.groups is None:
            return
        try:
            pid = sandbox.pid()
            if pid > 0:
                sandbox.groups.join(pid)
        except ProcessLookupError:
            return  # it failed already, and says why over its channel
        except OSError as error:
            raise Refused(f"control groups: {error}") from error

    async def _attach(self, sandbox: RunningSandbox, descriptors: list[int]) -> None:
        assert self._spawner is not None
        sandbox.namespace, sandbox.user_namespace = descriptors[0], self._spawner.user_namespace
        sandbox.listener, *others = [socket.socket(fileno=descriptor) for descriptor in descriptors[1:]]
        sandbox.listener.setblocking(False)
        if self._network is None:
            return
        for other in others:
            other.setblocking(False)
        try:
            sandbox.attachment = await self._network.attach(
                sandbox.id, sandbox.namespace, sandbox.user_namespace, others
            )
        except (OSError, LambdaError) as error:
            raise Refused(f"network: {error}") from error

    # ---- what is reported -----------------------------------------------------------------------------

    def _exited(self, key: str, status: int) -> None:
        sandbox = self._sandboxes.get(key)
        if sandbox is not None:
            sandbox.ended(status)

    # Only its own: another one may have started environments by then.

    def _forker_dying(self, forker: ForkingProcess) -> None:
        for sandbox in self._sandboxes.values():
            if sandbox.spawner is forker:
                sandbox.kill()

    def _forker_died(self, forker: ForkingProcess) -> None:
        for sandbox in list(self._sandboxes.values()):
            if sandbox.spawner is forker:
                sandbox.ended(None)

    def _released(self, sandbox: RunningSandbox, clean: bool) -> None:
        if sandbox.image is not None:
            self._images.release(sandbox.image)
        self._sandboxes.pop(sandbox.key, None)
        self._parking.released()
        if clean:
            self._uids.append(sandbox.uid)
        else:
            _log.error("The uid of an environment is not used again.", environment=sandbox.id, uid=sandbox.uid)

    def enforcement(self) -> Sequence[Enforcement]:
        abilities = self._abilities
        host = facts.Host(
            rootless=abilities.rootless,
            tree=abilities.tree,
            images=abilities.images,
            why=abilities.why,
            nproc_hard=resource.getrlimit(resource.RLIMIT_NPROC)[1],
            filter_length=len(seccomp.program()) // 8,
        )
        network = self._network.enforcement() if self._network is not None else (facts.NO_NETWORK,)
        starts = Enforcement("cold starts", True, self._parking.how)
        return (*facts.enforcement(host, self._config), starts, *network)


def _waiting(spec: EnvironmentSpec) -> dict[str, Any]:
    """What is different in the request of a process that waits for its function."""
    return {"waits": True, "env": {**(spec.ahead_env or {}), AHEAD: str(contain.WAITS_ON)}}


async def _to_end(work: "asyncio.Future[None]") -> None:
    """Awaits work in a thread to its end even when cancelled, for what it makes must be there to be freed."""
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
