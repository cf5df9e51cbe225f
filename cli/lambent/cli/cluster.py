"""What every role of a cluster does alike: it says each second that it lives and where, sees who else does, and
shows its peers what the operator gave it to show.
"""

import asyncio
import contextlib
import json
import secrets
import ssl
import uuid
from collections.abc import Mapping, Sequence

from lambent.cli.client import Failed
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import Member
from lambent.kernel.ports import FunctionStore
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.grpc_access import Certificates, Cluster
from lambent.kernel.remote.host_client import Address
from lambent.kernel.settings import Settings
from lambent.kernel.store.members import RedisMembers
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_EVERY_SECONDS = 1.0
_AT_LEAST_SECONDS = 0.1
# A member that has not registered for so long is not counted on.
TTL_SECONDS = 5.0
# Clients find an executor's address for so long after its last word: its runs may still be under way.
_KNOWN_SECONDS = 20.0


def required_redis(settings: Settings) -> str:
    """Raises Failed: the roles of a cluster meet in one Redis."""
    if settings.redis_url is None:
        raise Failed(
            "the roles of a cluster share one Redis: give --redis-url redis://HOST:PORT/0 or LAMBENT_REDIS_URL "
            "(`lambent up` brings its own)."
        )
    return settings.redis_url


def cluster_of(settings: Settings, *, server: bool) -> Cluster:
    """What this role shows its peers. Raises Failed."""
    files = (settings.internal_tls_cert, settings.internal_tls_key, settings.internal_tls_ca)
    certificates: Certificates | None = None
    context: ssl.SSLContext | None = None
    if any(files):
        cert, key, ca = files
        if cert is None or key is None or ca is None:
            raise Failed(
                "TLS between the roles needs all of LAMBENT_INTERNAL_TLS_CERT, LAMBENT_INTERNAL_TLS_KEY and "
                "LAMBENT_INTERNAL_TLS_CA."
            )
        certificates = Certificates(cert, key, ca)
        try:
            context = certificates.context(server=server)
        except (OSError, ssl.SSLError) as failure:
            raise Failed(f"the certificates between the roles can't be used: {failure}.") from None
    secret = settings.cluster_key
    try:
        access = Access(secret.get_secret_value().encode() if secret is not None else None, context)
    except ValueError as failure:
        raise Failed(f"LAMBENT_CLUSTER_KEY: {failure}") from None
    return Cluster(access, certificates)


def check_host(settings: Settings, cluster: Cluster, what: str) -> None:
    """Refuses to listen beyond loopback without a proof. Raises Failed."""
    try:
        cluster.access.check(settings.internal_host, what)
    except ValueError as failure:
        raise Failed(
            f"{failure} Set LAMBENT_CLUSTER_KEY to the same text for all roles, or LAMBENT_INTERNAL_TLS_CERT, "
            "_KEY and _CA; or leave LAMBENT_INTERNAL_HOST on loopback."
        ) from None


def address_text(host: str, port: int) -> str:
    """As gRPC takes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parsed(text: str) -> Address:
    """The reverse of `address_text`."""
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


class Membership:
    """This process among the others. `id` is this run's own."""

    def __init__(self, role: str, redis_url: str, settings: Settings) -> None:
        self.id = f"{role}-{uuid.uuid4().hex[:12]}"
        self.role = role
        self.members = RedisMembers(redis_url)
        self.addresses: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self._host = settings.advertise or settings.internal_host
        self._clock = SystemClock()
        self._seen: Mapping[str, Member] = {}
        self._said = ""
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()

    def serve(self, name: str, port: int) -> str:
        """This role answers at a port; its address for others."""
        self.addresses[name] = address_text(self._host, port)
        return self.addresses[name]

    async def start(self, tasks: Tasks) -> None:
        """Registers and looks, once now, then each second. Raises LambdaError."""
        await self.step()
        self._task = tasks.forever("membership", self._run())

    async def step(self) -> None:
        """Raises LambdaError."""
        member = Member(self.id, self.role, dict(self.addresses), dict(self.facts))
        await self.members.register(member, TTL_SECONDS)
        self._seen = {each.id: each for each in await self.members.list()}

    async def _run(self) -> None:
        while True:
            # Who is asked for somebody new looks at once, but not all the time.
            await self._clock.sleep(_AT_LEAST_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS - _AT_LEAST_SECONDS):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.step()
                self._said = ""
            except LambdaError as failure:
                if failure.message != self._said:
                    _log.warning("The members of the cluster cannot be read.", why=failure.message)
                self._said = failure.message

    def live(self, role: str) -> Sequence[Member]:
        """Members that registered lately."""
        return [each for each in self._seen.values() if each.role == role and each.live]

    def schedulers(self) -> Mapping[str, str]:
        """{id: address}."""
        return {each.id: each.addresses["grpc"] for each in self.live("scheduler") if "grpc" in each.addresses}

    def executor(self, id: str) -> Address | None:
        """Where an executor takes invocations; None if it is gone."""
        found = self._seen.get(id)
        if found is None:
            self._wanted.set()
        if found is None or found.age > _KNOWN_SECONDS or "invoke" not in found.addresses:
            return None
        return parsed(found.addresses["invoke"])

    def executors(self) -> Sequence[str]:
        """Ids of those that live."""
        return [each.id for each in self.live("executor")]

    def runtimes(self) -> Mapping[str, tuple[str, str]]:
        """{runtime: (what it runs on, why it cannot run)}, by what the executors say: "" where one can."""
        found: dict[str, tuple[str, str]] = {}
        for each in self.live("executor"):
            said: dict[str, tuple[str, str]] = json.loads(each.facts.get("runtimes", "{}"))
            for runtime, (runs_on, problem) in said.items():
                if not problem or runtime not in found:
                    found[runtime] = runs_on, problem
        return found

    async def leave(self) -> None:
        """Nobody counts on this one any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self.members.remove(self.id)
        except LambdaError as failure:
            _log.info("This member is forgotten in a minute only.", why=failure.message)
        await self.members.close()


async def shared_secret(store: FunctionStore, purpose: str) -> bytes:
    """32 bytes that all roles have alike, made by the first one that asks. Raises LambdaError."""
    name = f"secret:{purpose}"
    found = await store.mark_get(name)
    if found is None:
        found = await store.mark_first(name, secrets.token_hex(32))
    return bytes.fromhex(found)
