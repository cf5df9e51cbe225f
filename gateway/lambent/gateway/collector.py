"""Removes code that nothing names any more, because blobs are written before the metadata that names them
and so can be left over.

A blob goes only when unreferenced and untouched for an hour; what `latest`, `serving` or a published version
uses, or is a layer's, stays.
"""

from lambent.gateway.services import Services
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import Function, FunctionVersion

_log = Log(__name__)
_EVERY_SECONDS = 3600.0
_UNTOUCHED_SECONDS = 3600.0
_PAGE = 200


async def referenced(services: Services) -> frozenset[str]:
    """The digests that functions and layers name."""
    digests: set[str] = set()
    after: str | None = None
    while rows := await services.store.page(after=after, limit=_PAGE):
        for function in rows:
            # The versions after $LATEST: one that was published between is of that, or of what came before it.
            for version in (function.latest, function.serving, *await _versions(services, function)):
                if version is not None:
                    digests.add(version.archive.digest)
                    digests |= {layer.archive.digest for layer in version.layers}
        after = rows[-1].name
    for name in await services.store.layers():
        digests |= {layer.archive.digest for layer in await services.store.layer_versions(name)}
    return frozenset(digests)


async def _versions(services: Services, function: Function) -> list[FunctionVersion]:
    """Asked of the store whatever `function` says: it may have published since it was read."""
    versions: list[FunctionVersion] = []
    after = 0
    while rows := await services.store.versions(function.name, after=after, limit=_PAGE):
        versions += rows
        after = int(rows[-1].version)
    return versions


async def run(services: Services) -> None:
    """Collects each hour, for `Tasks.forever`."""
    while True:
        await services.clock.sleep(_EVERY_SECONDS)
        try:
            gone = await services.blobs.collect(
                await referenced(services), untouched_seconds=_UNTOUCHED_SECONDS
            )
        except LambdaError as failure:
            _log.warning("Unused code could not be collected; it is tried again in an hour.", failure=failure)
            continue
        if gone:
            _log.info("Collected unused code.", archives=gone)
