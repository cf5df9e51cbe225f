"""Egress for an ordinary user: one slirp4netns per environment, a network stack in user space whose connections
are made as the executor's user.

So the host's addresses would be as near to a function as to that user: before slirp4netns starts, routes
inside the environment make every address of the host and every link-local one unreachable, and a function has
no capability to change routes. slirp4netns's own resolver address is switched off: with a resolver on the
host's loopback it would be a way there; DNS goes by Lambent's relay. An address that the host gets later is
closed only in environments that start later.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from lambent.executor.drivers.sandbox import egress_links as kernel
from lambent.executor.drivers.sandbox.egress_addresses import FORBIDDEN, choose_range
from lambent.executor.drivers.sandbox.egress_rules import find
from lambent.kernel.log import Log
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

_TUN = "/dev/net/tun"
_READY_SECONDS = 10.0
_END_SECONDS = 2.0
_HELPER = Path(__file__).with_name("egress_inside.py")


def unavailable() -> tuple[str, str] | None:
    """(why slirp4netns can't serve here, advice), or None if it can."""
    if find("slirp4netns") is None:
        return "slirp4netns is not installed", "apt-get install slirp4netns, or run Lambent as root"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"this user may not open {_TUN}", f"chmod 0666 {_TUN} as root, or run Lambent as root"
    return None


def closed_networks(host: Iterable[kernel.Address]) -> list[str]:
    """What must be unreachable inside, as CIDR: the host's addresses and the forbidden networks. IPv6 needs
    nothing: slirp4netns runs without it."""
    own = {ip_network(each) for each in host if each.version == 4 and not each.is_loopback}
    fixed = [each for each in FORBIDDEN if not each.is_loopback]
    kept = [each for each in own if not any(_within(each, wide) for wide in fixed)]
    return [str(each) for each in (*fixed, *sorted(kept, key=str))]


def _within(one: kernel.Network, wide: IPv4Network) -> bool:
    return isinstance(one, IPv4Network) and one.subnet_of(wide)


class SlirpEgress:
    """Egress by slirp4netns; one per instance."""

    def __init__(self, instance: str, tasks: Tasks) -> None:
        self._instance = instance
        self._tasks = tasks

    async def attach(self, netns_fd: int, userns_path: str | None) -> "Slirp":
        """Starts one for the namespace and returns when its interface is up. Cancelled or failed, it leaves
        nothing. OSError says what failed."""
        with kernel.Links() as links:
            host, routes = links.addresses(), links.routes()
        network = choose_range(self._instance, [*(route for route, _ in routes), *host], prefix=24)
        made = Slirp(self._tasks)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_close_routes(netns_fd, userns_path, closed_networks(host)))
                both.create_task(made.start(netns_fd, userns_path, network))
        except BaseException as failure:
            await made.close()
            if isinstance(failure, BaseExceptionGroup):
                raise failure.exceptions[0] from None
            raise
        return made


async def _close_routes(netns_fd: int, userns_path: str | None, networks: Iterable[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", str(_HELPER), f"/proc/self/fd/{netns_fd}", userns_path or "-", *networks),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(netns_fd,),
        start_new_session=True,
    )
    try:
        _, complaint = await process.communicate()
    except BaseException:
        process.kill()
        await asyncio.shield(process.wait())
        raise
    if process.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines()
        raise OSError(f"routes of an environment were not closed: {lines[-1] if lines else process.returncode}")


class Slirp:
    """The slirp4netns of one environment. It ends when the pipe that we hold is closed, so also when the
    executor is killed."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._process: asyncio.subprocess.Process | None = None
        self._hold: int | None = None

    async def start(self, netns_fd: int, userns_path: str | None, network: IPv4Network) -> None:
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        exit_read, self._hold = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = await asyncio.create_subprocess_exec(
                str(find("slirp4netns")),
                *(
                    "--configure",
                    "--mtu=65520",
                    f"--cidr={network}",
                    "--disable-host-loopback",
                    "--disable-dns",
                ),
                *(
                    "--enable-sandbox",
                    "--enable-seccomp",
                    f"--ready-fd={ready_write}",
                    f"--exit-fd={exit_read}",
                ),
                *("--netns-type=path", *(() if userns_path is None else (f"--userns-path={userns_path}",))),
                *(f"/proc/self/fd/{netns_fd}", "tap0"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(netns_fd, ready_write, exit_read),
                start_new_session=True,
            )
        except BaseException:
            os.close(ready_read)
            raise
        finally:
            os.close(ready_write)
            os.close(exit_read)
        try:
            await asyncio.wait_for(self._ready(ready_read), _READY_SECONDS)
        except TimeoutError:
            raise OSError(f"slirp4netns was not ready after {_READY_SECONDS:.0f} s") from None
        finally:
            os.close(ready_read)

    async def _ready(self, pipe: int) -> None:
        loop = asyncio.get_running_loop()
        said: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            loop.remove_reader(pipe)
            if not said.done():
                said.set_result(os.read(pipe, 1))

        loop.add_reader(pipe, read)
        try:
            if await said == b"1":
                self._tasks.once("slirp4netns's complaints", self._drain())
                return
        finally:
            loop.remove_reader(pipe)
        assert self._process is not None and self._process.stderr is not None
        complaint = (await self._process.stderr.read(2000)).decode(errors="replace").strip()
        raise OSError(f"slirp4netns ended: {complaint}")

    async def _drain(self) -> None:
        """Reads what it writes to stderr, so that it never waits for us."""
        assert self._process is not None and self._process.stderr is not None
        stderr = self._process.stderr
        while said := await stderr.read(1 << 14):
            _log.debug("slirp4netns says.", said=said.decode(errors="replace").strip())

    async def close(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            os.close(hold)
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), _END_SECONDS)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
