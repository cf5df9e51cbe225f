"""`lambent up`: everything in one process tree, in an order that starts nothing twice and loses nothing.

Start: settings, data folder (locked), port, Redis, S3, executor, queue, listeners. Stop, on the first SIGINT or
SIGTERM: no new connections, no new events, wait for what runs (bounded), environments, stores, servers. A
second signal cuts the waiting short.
"""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Coroutine, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from lambent.cli.client import Failed, err, read_settings, say, url_of
from lambent.cli.descriptors import raise_limit
from lambent.cli.doctor import not_enforced
from lambent.cli.grpc_listener import GrpcListener
from lambent.cli.listeners import Listener, Serving, answered, bind, bind_unix, socket_folder
from lambent.cli.s3_server import PLACEHOLDER_KEY_ID, PLACEHOLDER_SECRET, PLACEHOLDER_TOKEN
from lambent.cli.servers import DataFolder, OwnRedis, OwnS3
from lambent.cli.wiring import Parts, Place, make_parts, make_tracer
from lambent.cli.wiring_events import redis_memory_mb
from lambent.executor.drivers.base import Reachable
from lambent.executor.drivers.sandbox.reachable import reachable_from_urls, taken_inside
from lambent.executor.variables import Credentials
from lambent.gateway import collector
from lambent.gateway.handlers import concurrency, lifecycle
from lambent.kernel import log, tracing
from lambent.kernel.blobs.choice import close_blobs
from lambent.kernel.blobs.probe import check_shared
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.loopback import is_loopback
from lambent.kernel.settings import Settings, endpoint_urls, unknown_variables
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
# For answers to go out after a drain that took all its time.
_ANSWER_SECONDS = 3.0


def run(flags: Mapping[str, Any]) -> int:
    """The exit code. Raises Failed when it can't start."""
    settings = read_settings(flags)
    log.configure(form=settings.log_format, level=settings.log_level)
    for problem in unknown_variables(os.environ):
        say(f"warning: {problem}", style="yellow", to=err)
    raise_limit()
    tracing.active = make_tracer(settings)
    try:
        return uvloop.run(Up(settings).run())
    except LambdaError as failure:
        raise Failed(failure.message) from None
    finally:
        if tracing.active is not None:
            tracing.active.close()
            tracing.active = None


class Up:
    """One run of a server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._tasks = Tasks("lambent", on_death=self._task_died)
        # Names of the tasks without which the server would hang in silence.
        self._vital: set[str] = set()
        self._signalled = asyncio.Event()
        self._starting: asyncio.Task[Any] | None = None
        self._serving = False
        self._no_triggers: str | None = None
        self._grpc: GrpcListener | None = None
        self._code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signal)
        with DataFolder.open(self._settings.data_dir) as folder:
            listener = bind(self._settings.host, self._settings.port)
            try:
                if self._settings.grpc_port is not None:
                    self._grpc = GrpcListener(self._settings)
                self._refuse_taken_inside(listener)
                await self._with_servers(folder, listener)
            except asyncio.CancelledError:
                if self._starting is None or not self._starting.cancelling():
                    raise
                self._starting.uncancel()
                say("Stopped before it served.")
            finally:
                listener.close()
                if self._grpc is not None:
                    await self._grpc.close()
                await self._tasks.drain(5.0)
        return self._code

    def _refuse_taken_inside(self, listener: socket.socket) -> None:
        """Said before anything is started: functions must reach us by our port."""
        own = urlsplit(self._url(listener))
        owner = taken_inside(own.hostname or "", own.port or 0) if self._settings.isolation != "none" else None
        if owner is not None:
            raise Failed(
                f"port {own.port} can't be Lambent's: inside every environment it belongs to {owner}. "
                "Take another with --port N or LAMBENT_PORT=N."
            )

    def _signal(self) -> None:
        if self._starting is not None and not self._serving and not self._starting.cancelling():
            self._starting.cancel()  # what has been started so far is stopped on the way out
        self._signalled.set()

    def _task_died(self, name: str, failure: BaseException | None) -> None:
        """A part that should run forever has ended: a server that goes on without it would hang in silence."""
        if name not in self._vital or self._signalled.is_set():
            return
        _log.error(
            "Stopping, since a part that should run forever has ended.", part=name, failure=repr(failure)
        )
        self._code = 1
        self._signalled.set()

    def _forever(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._vital.add(self._tasks.forever(name, work).get_name())

    # ---- starting -------------------------------------------------------------------------------------

    async def _with_servers(self, folder: DataFolder, listener: socket.socket) -> None:
        settings = self._settings
        redis: OwnRedis | None = None
        s3: OwnS3 | None = None
        redis_url = settings.redis_url
        say(f"Starting Lambent with the data folder {folder.path}.")
        if redis_url is None:
            say("Starting its Redis-compatible server...")
            redis = OwnRedis(
                folder.folder("redis"),
                instance=folder.instance,
                memory_mb=redis_memory_mb(settings),
                clock=self._clock,
                tasks=self._tasks,
            )
            redis_url = await redis.start()
        try:
            s3_url, s3 = await self._start_s3(folder, listener)
            self._no_triggers = None if s3 is not None else _no_triggers(s3_url, wanted=settings.s3)
            await self._serve(folder, listener, redis_url, s3_url)
        finally:
            if s3 is not None:
                await s3.stop()
            if redis is not None:
                await redis.stop()

    async def _start_s3(self, folder: DataFolder, listener: socket.socket) -> tuple[str | None, OwnS3 | None]:
        given = endpoint_urls(os.environ)
        url = given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL")
        if url is not None or not self._settings.s3:
            return url, None
        problem = OwnS3.problem()
        if problem is not None:
            say(f"No S3 server: {problem}.")
            return None, None
        say("Starting its S3 server...")
        server = OwnS3(
            folder.folder("s3"),
            webhook=f"{self._url(listener)}/_lambent/s3-events",
            token=folder.token("s3 webhook"),
            clock=self._clock,
            tasks=self._tasks,
            port=self._settings.s3_port,
        )
        return await server.start(), server

    def _url(self, listener: socket.socket) -> str:
        return url_of(*listener.getsockname()[:2])

    def _credentials(self) -> Credentials:
        settings = self._settings
        if settings.function_aws_access_key_id and settings.function_aws_secret_access_key:
            token = settings.function_aws_session_token
            return Credentials(
                settings.function_aws_access_key_id,
                settings.function_aws_secret_access_key.get_secret_value(),
                token.get_secret_value() if token is not None else None,
            )
        return Credentials(PLACEHOLDER_KEY_ID, PLACEHOLDER_SECRET, PLACEHOLDER_TOKEN)

    def _place(self, folder: DataFolder, url: str, redis_url: str, s3_url: str | None, relay: Path) -> Place:
        endpoints = endpoint_urls(os.environ)
        if s3_url is not None:
            endpoints.setdefault("AWS_ENDPOINT_URL_S3", s3_url)
        endpoints.setdefault("AWS_ENDPOINT_URL_LAMBDA", url)
        endpoints.setdefault("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        grpc = self._grpc.address if self._grpc is not None else None
        facts = {
            "version": metadata.version("lambent"),
            "endpoints": {"lambda": url, "s3": s3_url, "grpc": grpc},
            "account_id": self._settings.account_id,
            "region": self._settings.region,
            "data_dir": str(self._settings.data_dir),
            "isolation": self._settings.isolation,
        }
        return Place(
            instance=folder.instance,
            code_key=folder.key("code urls"),
            webhook_token=folder.token("s3 webhook"),
            redis_url=redis_url,
            s3_url=s3_url,
            no_triggers=self._no_triggers,
            credentials=self._credentials(),
            endpoints=endpoints,
            reachable=_reachable([*endpoints.values(), *self._settings.reachable], url, relay),
            facts=facts,
        )

    async def _serve(
        self, folder: DataFolder, listener: socket.socket, redis_url: str, s3_url: str | None
    ) -> None:
        url = self._url(listener)
        with socket_folder(folder.path / "run", folder.instance) as sockets:
            relay = sockets / "functions.sock"
            parts = make_parts(self._settings, self._place(folder, url, redis_url, s3_url, relay), self._tasks)
            drain = self._settings.drain_seconds
            listeners: dict[str, Serving] = {
                "API": Listener(parts.app, listener, drain=drain),
                "functions' relay": Listener(parts.restricted_app, bind_unix(relay), drain=drain),
            }
            if self._grpc is not None:
                self._grpc.add(parts, url, self._tasks)
                listeners["gRPC"] = self._grpc
            try:
                say("Ending what a killed server left, and looking at the runtimes...")
                await self._open(parts)
                for name, each in listeners.items():
                    await each.start(self._tasks, name)
                self._forever("queue feed", parts.events.feed.run())
                self._forever("queue upkeep", parts.events.upkeep.run())
                self._forever("payload sweep", parts.events.upkeep.run_sweep())
                self._tasks.once("usage", parts.shipping.run())
                if parts.sweep is not None:
                    self._forever("S3 sweep", parts.sweep.run())
                self._forever("S3 marks", parts.marks.run())
                self._forever("event loop lag", parts.vitals.run_second())
                self._forever("Redis ping", parts.vitals.run_redis())
                self._forever("metric series", parts.vitals.run_series())
                self._forever("collector", collector.run(parts.services))
                await concurrency.restore(parts.services)
                resumed = await lifecycle.resume(parts.services)
                if resumed:
                    _log.info("Went on with functions that the last stop cut off.", count=resumed)
                _settle_garbage()
                self._banner(parts, url, s3_url)
                exposed = _exposed(listener)
                if exposed is not None:
                    say(exposed, style="yellow", to=err)
                self._serving = True
                await self._signalled.wait()
                say("Stopping: waiting for what runs. Once more to cut it off.")
            finally:
                await self._close(parts, list(listeners.values()))

    async def _open(self, parts: Parts) -> None:
        await parts.store.open()
        await check_shared(parts.services.blobs, parts.store, alone=True)
        await parts.logs.open()
        await parts.queue.start()
        await parts.queue.lanes()  # connects, and so learns what an accepted event is worth there
        await parts.trees.open()
        await parts.runtimes.open()
        await parts.host.open()
        missing = not_enforced(parts.host.enforcement())
        if missing and self._settings.isolation == "strict":
            listed = "\n  ".join(missing)
            raise Failed(f"LAMBENT_ISOLATION=strict, and this host can't enforce:\n  {listed}")

    def _banner(self, parts: Parts, url: str, s3_url: str | None) -> None:
        settings = self._settings
        say(f"\nLambent serves at {url}", style="bold green")
        lines = ["", f"  export AWS_ENDPOINT_URL_LAMBDA={url}"]
        lines += [f"  export AWS_ENDPOINT_URL_CLOUDWATCH_LOGS={url}"]
        if s3_url is not None:
            lines += [f"  export AWS_ENDPOINT_URL_S3={s3_url}"]
        if self._grpc is not None:
            lines.insert(0, f"gRPC at {self._grpc.address} ({self._grpc.secured})")
        lines += [
            # Both: boto3 and version 1 of aws read the second one only.
            f"  export AWS_REGION={settings.region} AWS_DEFAULT_REGION={settings.region}",
            "  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any",
            "",
            "Any key works for now: signatures are not checked yet, so keep it on loopback.",
            f"Data lies in {settings.data_dir}; to reset, stop and delete that folder.",
        ]
        missing = not_enforced(parts.host.enforcement())
        if missing:
            lines.append("This host can't enforce:")
            lines += [f"  - {line}" for line in missing]
        if parts.queue.durable() is False:
            lines.append(f"Accepted asynchronous events are {parts.queue.durability()}")
        lines.append(f"Stop with Ctrl-C, or kill -TERM {os.getpid()}.")
        say("\n".join(lines))

    # ---- stopping -------------------------------------------------------------------------------------

    async def _close(self, parts: Parts, listeners: Sequence[Serving]) -> None:
        parts.s3_events.close()
        parts.routes.close()
        for each in listeners:
            each.stop_accepting(self._settings.drain_seconds + _ANSWER_SECONDS)
        until = self._clock.monotonic() + self._settings.drain_seconds
        await self._bounded(self._settings.drain_seconds, parts)
        await parts.host.close()
        await parts.shipping.close()
        left = max(until - self._clock.monotonic(), _ANSWER_SECONDS)
        await answered(listeners, self._tasks, seconds=left, cut_short=self._signalled)
        parts.events.clients.close()
        await parts.queue.close()
        try:
            await parts.marks.flush()  # else the last seconds' objects would come twice
        except LambdaError as failure:
            _log.warning("S3 trigger marks are not written; some events may come twice.", failure=failure)
        await close_blobs(parts.services.blobs)
        await parts.ledger.close()
        await parts.logs.close()
        await parts.store.close()

    async def _bounded(self, seconds: float, parts: Parts) -> None:
        """Waits for what runs, at most so long or until a second signal."""
        self._signalled.clear()

        async def drained() -> None:
            await asyncio.gather(parts.events.feed.stop(), parts.host.drain(seconds))

        async def again() -> None:
            await self._signalled.wait()

        waiting = [self._tasks.once("drain", drained()), self._tasks.once("second signal", again())]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


def _no_triggers(s3_url: str | None, *, wanted: bool) -> str | None:
    """Why no S3 server of our own tells us of objects, and what to do."""
    if s3_url is not None:
        return (
            f"the S3 server at {s3_url} is not Lambent's own and does not tell it of objects. Start "
            "`lambent up` without AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL set: it brings its own."
        )
    if not wanted:
        return "there is no S3 server. Start `lambent up` without --no-s3 (LAMBENT_S3=false, s3 = false)."
    return f"there is no S3 server: {OwnS3.problem() or 'it was not there at the start'}."


def _exposed(listener: socket.socket) -> str | None:
    """A warning if others than this machine reach the listener."""
    host, port = listener.getsockname()[:2]
    if is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}"):
        return None
    return (
        f"warning: Lambent listens on {host}, not on loopback alone, and checks no signatures yet: whoever "
        f"reaches port {port} can run code here. Shut that port to others, or leave --host out."
    )


def _settle_garbage() -> None:
    """What exists by now lives as long as the server (AWS's model alone is a million objects): the collector
    need not walk it again and again, which stalled invocations for some 30 ms each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _reachable(urls: Sequence[str], own_url: str, relay: Path) -> tuple[Reachable, ...]:
    """What functions reach on this host. Our own port leads to the restricted application."""
    port = int(own_url.rsplit(":", 1)[1])
    return tuple(
        Reachable(each.host, each.port, str(relay)) if each.port == port else each
        for each in reachable_from_urls([*urls, own_url])
    )
