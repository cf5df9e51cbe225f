"""Whether this role's blob store is the one that the others use, because a role that has another one would
start, and then fail at every function's code and lose large payloads.

A mark (in Redis) holds 32 random bytes, and the store an object with the same bytes under a name made of their
SHA-256. The object is written before the mark, and the first mark stays: of two first starters one wins, and
the other reads the winner's object. A mark whose object is not written yet cannot be.
"""

import hashlib
import hmac
import secrets
from typing import Protocol

from lambent.kernel.errors import LambdaError, ResourceNotFoundException, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.ports import BlobStore

_log = Log(__name__)
# No lane has this name; the sweep of payloads, which belong to lanes, passes it over.
FOLDER = "_lambent"
MARK = "blobs probe"


class ProbeMarks(Protocol):
    """What of `ports.FunctionStore` is needed."""

    async def mark_get(self, key: str) -> str | None: ...

    async def mark_first(self, key: str, value: str) -> str: ...


async def check_shared(blobs: BlobStore, marks: ProbeMarks, *, alone: bool = False) -> None:
    """Raises ServiceException when this role's blobs are not those of the installation whose `marks` these are,
    or when either store does not answer. `alone`: the server has all roles, and may have a data folder that
    was copied without the object; then it is written again, with a warning."""
    noted = await marks.mark_get(MARK)
    if noted is None:
        noted = await _first(blobs, marks)
    name, data = name_of(noted), noted.encode()
    try:
        found = await blobs.get_named(name)
    except ResourceNotFoundException:
        if not alone:
            raise _other_store(name) from None
        _log.warning(
            "The blob store has not the object by which the installation knows it. If this store is a new one "
            "(LAMBENT_BLOBS), the code of functions that were made before is not in it.",
            object=name,
        )
        await blobs.put_named(name, data)
        found = await blobs.get_named(name)
    if not hmac.compare_digest(found, data):
        raise _other_store(name)


def name_of(noted: str) -> str:
    """The object's name, of the mark's text."""
    return f"{FOLDER}/probe.{hashlib.sha256(noted.encode()).hexdigest()}"


async def _first(blobs: BlobStore, marks: ProbeMarks) -> str:
    """The mark's text: ours, or that of who was faster."""
    ours = secrets.token_hex(32)
    await blobs.put_named(name_of(ours), ours.encode())
    noted = await marks.mark_first(MARK, ours)
    if noted != ours:
        try:
            await blobs.delete_named(name_of(ours))
        except LambdaError as failure:
            _log.warning("An object that is of no use stays in the blob store.", failure=failure)
    return noted


def _other_store(name: str) -> ServiceException:
    return ServiceException(
        "This role's blob store is not the one that the other roles use: it has not the object "
        f"{name} with the bytes that they wrote. Set LAMBENT_BLOBS to the same s3://BUCKET/PREFIX (or shared "
        "folder), and AWS_ENDPOINT_URL_S3 to the same server, for every role. If the store was moved, copy all "
        "of the old one."
    )
