"""`lambent up`: everything in one process tree, in an order that starts nothing twice and loses nothing.

Start: settings, data folder (locked), port, Redis, S3, executor, queue, listeners. Stop, on the first SIGINT or
SIGTERM: no new connections, no new events, wait for what runs (bounded), environments, stores, servers. A
second signal cuts the waiting short.
"""

import gc
import os
import socket
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lambent.cli.client import Failed, err, say, url_of
from lambent.cli.doctor import not_enforced
from lambent.cli.grpc_listener import GrpcListener
from lambent.cli.listeners import Listener, Serving, answered, bind, bind_unix, exposed, socket_folder
from lambent.cli.process import Process
from lambent.cli.process import run as run_process
from lambent.cli.servers import DataFolder, OwnRedis, OwnS3
from lambent.cli.wiring import Parts, Place, make_parts
from lambent.cli.wiring_api import ApiParts, make_api_parts
from lambent.cli.wiring_events import redis_memory_mb
from lambent.cli.wiring_place import credentials, reachable_through
from lambent.executor.drivers.sandbox.reachable import taken_inside
from lambent.gateway import collector
from lambent.gateway.handlers import concurrency, lifecycle
from lambent.kernel.blobs.choice import close_blobs
from lambent.kernel.blobs.probe import check_shared
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.settings import Settings, endpoint_urls

_log = Log(__name__)
# For answers to go out after a drain that took all its time.
_ANSWER_SECONDS = 3.0


def run(flags: Mapping[str, Any]) -> int:
    """The exit code. Raises Failed when it can't start."""
    return run_process(Up, flags)


class Up(Process):
    """One run of a server."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._no_triggers: str | None = None
        self._grpc: GrpcListener | None = None

    async def main(self) -> None:
        with DataFolder.open(self.settings.data_dir) as folder:
            listener = bind(self.settings.host, self.settings.port)
            try:
                if self.settings.grpc_port is not None:
                    self._grpc = GrpcListener(self.settings)
                self._refuse_taken_inside(listener)
                await self._with_servers(folder, listener)
            finally:
                listener.close()
                if self._grpc is not None:
                    await self._grpc.close()
                # Before the folder is free for the next server.
                await self.tasks.drain(5.0)

    def _refuse_taken_inside(self, listener: socket.socket) -> None:
        """Said before anything is started: functions must reach us by our port."""
        own = urlsplit(self._url(listener))
        owner = taken_inside(own.hostname or "", own.port or 0) if self.settings.isolation != "none" else None
        if owner is not None:
            raise Failed(
                f"port {own.port} can't be Lambent's: inside every environment it belongs to {owner}. "
                "Take another with --port N or LAMBENT_PORT=N."
            )

    # ---- starting -------------------------------------------------------------------------------------

    async def _with_servers(self, folder: DataFolder, listener: socket.socket) -> None:
        settings = self.settings
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
                clock=self.clock,
                tasks=self.tasks,
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
        if url is not None or not self.settings.s3:
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
            clock=self.clock,
            tasks=self.tasks,
            port=self.settings.s3_port,
        )
        return await server.start(), server

    def _url(self, listener: socket.socket) -> str:
        return url_of(*listener.getsockname()[:2])

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
            "account_id": self.settings.account_id,
            "region": self.settings.region,
            "data_dir": str(self.settings.data_dir),
            "isolation": self.settings.isolation,
        }
        return Place(
            instance=folder.instance,
            code_key=folder.key("code urls"),
            webhook_token=folder.token("s3 webhook"),
            redis_url=redis_url,
            s3_url=s3_url,
            no_triggers=self._no_triggers,
            credentials=credentials(self.settings),
            endpoints=endpoints,
            reachable=reachable_through([*endpoints.values(), *self.settings.reachable], url, relay),
            facts=facts,
        )

    async def _serve(
        self, folder: DataFolder, listener: socket.socket, redis_url: str, s3_url: str | None
    ) -> None:
        url = self._url(listener)
        with socket_folder(folder.path / "run", folder.instance) as sockets:
            relay = sockets / "functions.sock"
            place = self._place(folder, url, redis_url, s3_url, relay)
            parts = make_parts(self.settings, place, self.tasks)
            api = make_api_parts(self.settings, place, parts, self.tasks)
            drain = self.settings.drain_seconds
            listeners: dict[str, Serving] = {
                "API": Listener(api.app, listener, drain=drain),
                "functions' relay": Listener(api.restricted_app, bind_unix(relay), drain=drain),
            }
            if self._grpc is not None:
                self._grpc.add(api, url, self.tasks)
                listeners["gRPC"] = self._grpc
            try:
                say("Ending what a killed server left, and looking at the runtimes...")
                await self._open(parts)
                for name, each in listeners.items():
                    await each.start(self.tasks, name)
                self.forever("queue feed", parts.events.feed.run())
                self.forever("queue upkeep", parts.events.upkeep.run())
                self.forever("payload sweep", parts.events.upkeep.run_sweep())
                self.tasks.once("usage", parts.shipping.run())
                if parts.sweep is not None:
                    self.forever("S3 sweep", parts.sweep.run())
                self.forever("S3 marks", parts.marks.run())
                self.forever("environments seen", parts.dispatcher.run())
                self.forever("event loop lag", parts.vitals.run_second())
                self.forever("Redis ping", parts.vitals.run_redis())
                self.forever("metric series", parts.vitals.run_series())
                self.forever("collector", collector.run(api.services))
                await concurrency.restore(api.services)
                resumed = await lifecycle.resume(api.services)
                if resumed:
                    _log.info("Went on with functions that the last stop cut off.", count=resumed)
                _settle_garbage()
                self._banner(parts, url, s3_url)
                warning = exposed(listener)
                if warning is not None:
                    say(warning, style="yellow", to=err)
                await self.served()
            finally:
                await self._close(parts, api, list(listeners.values()))

    async def _open(self, parts: Parts) -> None:
        await parts.store.open()
        await check_shared(parts.blobs, parts.store, alone=True)
        await parts.logs.open()
        await parts.queue.start()
        await parts.queue.lanes()  # connects, and so learns what an accepted event is worth there
        await parts.trees.open()
        await parts.runtimes.open()
        await parts.host.open()
        missing = not_enforced(parts.host.enforcement())
        if missing and self.settings.isolation == "strict":
            listed = "\n  ".join(missing)
            raise Failed(f"LAMBENT_ISOLATION=strict, and this host can't enforce:\n  {listed}")

    def _banner(self, parts: Parts, url: str, s3_url: str | None) -> None:
        settings = self.settings
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

    async def _close(self, parts: Parts, api: ApiParts, listeners: Sequence[Serving]) -> None:
        api.s3_events.close()
        api.app.close()
        for each in listeners:
            each.stop_accepting(self.settings.drain_seconds + _ANSWER_SECONDS)
        until = self.clock.monotonic() + self.settings.drain_seconds
        drain = self.settings.drain_seconds
        await self.bounded(drain, parts.events.feed.stop(), parts.host.drain(drain))
        await parts.host.close()
        await parts.shipping.close()
        left = max(until - self.clock.monotonic(), _ANSWER_SECONDS)
        await answered(listeners, self.tasks, seconds=left, cut_short=self.signalled)
        parts.events.clients.close()
        await parts.queue.close()
        try:
            await parts.marks.flush()  # else the last seconds' objects would come twice
        except LambdaError as failure:
            _log.warning("S3 trigger marks are not written; some events may come twice.", failure=failure)
        await close_blobs(parts.blobs)
        await parts.ledger.close()
        await parts.logs.close()
        await parts.store.close()


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


def _settle_garbage() -> None:
    """What exists by now lives as long as the server (AWS's model alone is a million objects): the collector
    need not walk it again and again, which stalled invocations for some 30 ms each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
