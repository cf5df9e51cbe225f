"""What a server finds out of its own environment before it can be wired: keys for functions, and what they
reach."""

from collections.abc import Sequence
from pathlib import Path

from lambent.cli.s3_server import PLACEHOLDER_KEY_ID, PLACEHOLDER_SECRET, PLACEHOLDER_TOKEN
from lambent.executor.drivers.base import Reachable
from lambent.executor.drivers.sandbox.reachable import reachable_from_urls
from lambent.executor.variables import Credentials
from lambent.kernel.settings import Settings


def credentials(settings: Settings) -> Credentials:
    """Those that functions get: the operator's, else placeholders of their own."""
    if settings.function_aws_access_key_id and settings.function_aws_secret_access_key:
        token = settings.function_aws_session_token
        return Credentials(
            settings.function_aws_access_key_id,
            settings.function_aws_secret_access_key.get_secret_value(),
            token.get_secret_value() if token is not None else None,
        )
    return Credentials(PLACEHOLDER_KEY_ID, PLACEHOLDER_SECRET, PLACEHOLDER_TOKEN)


def reachable_through(urls: Sequence[str], own_url: str, relay: Path) -> tuple[Reachable, ...]:
    """What functions reach on this host. Our own port leads to the restricted application, by the socket
    `relay`."""
    port = int(own_url.rsplit(":", 1)[1])
    return tuple(
        Reachable(each.host, each.port, str(relay)) if each.port == port else each
        for each in reachable_from_urls([*urls, own_url])
    )
