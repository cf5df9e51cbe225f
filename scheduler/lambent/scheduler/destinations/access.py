"""How targets outside are reached: endpoints, keys and clients, in one place, because a target that this server
cannot reach must be refused when it is named.

Endpoints are those of the server's environment (AWS_ENDPOINT_URL_SQS and its like, else AWS_ENDPOINT_URL). The
keys are the functions' own, never the server's: whoever may name a target must not get the server's rights with
it. boto3 is synchronous and slow to import: clients are made at their first use, in a thread.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lambent.kernel.arn import LATEST
from lambent.kernel.loopback import proxies_for
from lambent.kernel.targets import Target, TargetKind
from lambent.scheduler.destinations.base import DeliveryFailed

_T = TypeVar("_T")
_CONNECT_SECONDS = 5
_READ_SECONDS = 20
_THREADS = 32  # as many as outcomes are sent at once: one that hangs holds a thread
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
            if target.qualifier not in (None, LATEST):
                return f"functions have no versions and aliases here yet, only {LATEST}."
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
    """boto3 clients by kind and region, used in a few threads of their own: a target that hangs must not take
    the threads that others use."""

    def __init__(self, access: Access, *, region: str) -> None:
        self._access = access
        self._region = region
        self._clients: dict[tuple[TargetKind, str], Any] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="destination")

    async def call(self, target: Target, work: Callable[[Any], _T]) -> _T:
        """Runs `work(client)`. Raises DeliveryFailed."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, target, work)

    def close(self) -> None:
        """Without waiting for calls under way: their outcome is delivered again."""
        self._threads.shutdown(wait=False, cancel_futures=True)

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
                max_pool_connections=_THREADS,
                s3={"addressing_style": "path"} if endpoint else {},
                proxies=proxies_for(endpoint),
            ),
        )
