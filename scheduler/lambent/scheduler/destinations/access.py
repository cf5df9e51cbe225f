"""How targets outside are reached: endpoints, keys and clients, in one place, because a target that this server
cannot reach must be refused when it is named.

Endpoints are those of the server's environment (AWS_ENDPOINT_URL_SQS and its like, else AWS_ENDPOINT_URL). The
keys are the functions' own, never the server's: whoever may name a target must not get the server's rights with
it. boto3 is synchronous and slow to import: clients are made at their first use, in a thread.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lambent.kernel.loopback import proxies_for
from lambent.kernel.targets import Target, TargetKind
from lambent.scheduler.destinations.base import DeliveryFailed

_T = TypeVar("_T")
_CONNECT_SECONDS = 5
_READ_SECONDS = 20
_CONNECTIONS = 32  # of one client: as many as outcomes are sent at once
_SERVICES = {
    TargetKind.SQS: ("sqs", "SQS"),
    TargetKind.SNS: ("sns", "SNS"),
    TargetKind.EVENTBRIDGE: ("events", "EVENTBRIDGE"),
    TargetKind.S3: ("s3", "S3"),
}
# What somebody may mend, so that a later try may succeed: rights, keys, a queue that is not there, a limit.
# JSON services answer 400 for these too, as for a message that they will never take.
_MENDABLE = re.compile(
    "denied|authoriz|authfailure|optin|kms|security"
    "|token|signature|accesskey|expired|unrecognizedclient"
    "|nonexist|notexist|notfound|nosuch|deletedrecently|disabled"
    "|throttl|overlimit|toomany|limitexceeded|slowdown|timeout",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Access:
    """`endpoints`: AWS_ENDPOINT_URL* by name. `own_keys`: the keys are somebody's, not placeholders, so that
    AWS itself may be meant where there is no endpoint."""

    endpoints: Mapping[str, str]
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    own_keys: bool = False

    def endpoint(self, kind: TargetKind) -> str | None:
        """The URL of a target's service, None for AWS's own."""
        name = f"AWS_ENDPOINT_URL_{_SERVICES[kind][1]}"
        return self.endpoints.get(name) or self.endpoints.get("AWS_ENDPOINT_URL") or None

    def problem(self, target: Target, *, region: str, account: str) -> str | None:
        """Why a target can't be reached from here, and what to do; None when it can."""
        if target.kind is TargetKind.LAMBDA:
            if (target.region, target.account) != (region, account):
                return f"the functions of this server are in account {account} and region {region}."
            return None
        if self.endpoint(target.kind) is not None or self.own_keys:
            return None
        name = f"AWS_ENDPOINT_URL_{_SERVICES[target.kind][1]}"
        return (
            f"the server does not know where {target.kind.value} is. Set {name} (or AWS_ENDPOINT_URL) in its "
            "environment, or, to mean AWS itself, LAMBENT_FUNCTION_AWS_ACCESS_KEY_ID and "
            "LAMBENT_FUNCTION_AWS_SECRET_ACCESS_KEY."
        )


class Clients:
    """boto3 clients by kind and region. Each call has a thread of its own, for a target that hangs must neither
    take the threads that others use nor hold up the end of the process, as those of an executor would."""

    def __init__(self, access: Access, *, region: str) -> None:
        self._access = access
        self._region = region
        self._clients: dict[tuple[TargetKind, str], Any] = {}
        self._closed = False

    async def call(self, target: Target, work: Callable[[Any], _T]) -> _T:
        """Runs `work(client)`. Raises DeliveryFailed."""
        if self._closed:
            raise DeliveryFailed("The server is stopping.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_T] = loop.create_future()

        def resolve(result: "_T | None", failure: Exception | None) -> None:
            if answer.done():
                return  # cancelled
            if failure is not None:
                answer.set_exception(failure)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result, failure = None, None
            try:
                result = self._call(target, work)
            except Exception as raised:
                failure = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(resolve, result, failure)

        threading.Thread(target=run, name="destination", daemon=True).start()
        return await answer

    def close(self) -> None:
        """Without waiting for calls under way: their outcome is delivered again."""
        self._closed = True

    def _call(self, target: Target, work: Callable[[Any], _T]) -> _T:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return work(self._client(target))
        except ClientError as failure:
            details = failure.response.get("Error", {})
            code, status = (
                details.get("Code", ""),
                failure.response["ResponseMetadata"].get("HTTPStatusCode", 0),
            )
            final = status in (400, 413) and _MENDABLE.search(code) is None
            raise DeliveryFailed(f"{code}: {details.get('Message') or failure}", final=final) from failure
        except (BotoCoreError, OSError) as failure:
            raise DeliveryFailed(str(failure)) from failure

    def _client(self, target: Target) -> Any:
        key = (target.kind, target.region or self._region)
        if key not in self._clients:  # two at once make two clients, and one of them stays
            self._clients[key] = self._made(*key)
        return self._clients[key]

    def _made(self, kind: TargetKind, region: str) -> Any:
        import boto3
        from botocore.config import Config

        access, endpoint = self._access, self._access.endpoint(kind)
        return boto3.session.Session().client(
            _SERVICES[kind][0],
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret_access_key,
            aws_session_token=access.session_token,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"total_max_attempts": 1},  # the queue's own back-off is the retry
                max_pool_connections=_CONNECTIONS,
                s3={"addressing_style": "path"} if endpoint else {},
                proxies=proxies_for(endpoint),
            ),
        )
