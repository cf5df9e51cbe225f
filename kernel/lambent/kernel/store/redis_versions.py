"""Published versions and aliases in Redis or Valkey, and what all steps of the function store stand on.

Versions have a hash of their own beside their function's, because there may be thousands, and whoever reads a
function wants one of them or none.
"""

from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lambent.kernel.arn import LATEST
from lambent.kernel.errors import PreconditionFailedException, ResourceNotFoundException
from lambent.kernel.models import Alias, Function, FunctionUrl, FunctionVersion
from lambent.kernel.store import codec
from lambent.kernel.store.changes import ChangeFeed
from lambent.kernel.store.connection import Connection, Script, shard_of, text

if TYPE_CHECKING:
    from redis.asyncio import Redis

_T = TypeVar("_T")
ALIAS = "alias:"
URL = "url:"
URLS = "lambent:urls"
"""{id of a function URL: function:qualifier}; written before the URL stands, removed after it is gone."""


class VersionSteps:
    """The part of `redis.RedisStore` that is about versions and aliases."""

    def __init__(self, connection: Connection, shards: int) -> None:
        self._connection = connection
        self._shards = shards
        self._changes = ChangeFeed()
        self._version_change, self._version_delete = (
            Script(f"version_{name}.lua") for name in ("change", "delete")
        )
        self._alias_put, self._alias_delete = (Script(f"alias_{name}.lua") for name in ("put", "delete"))

    @staticmethod
    def _tag(shard: int) -> str:
        return f"lambent:{{s{shard}}}:"

    def _key(self, kind: str, name: str) -> str:
        return f"{self._tag(shard_of(name, self._shards))}{kind}:{name}"

    def _beside(self, name: str, index: str) -> str:
        return self._tag(shard_of(name, self._shards)) + index

    async def _change(self, name: str, step: Awaitable[_T]) -> _T:
        """Runs a changing step. One that got no answer may be done, or be done yet by a server that hangs: the
        callbacks are told of it, and once more when the server tells of it."""
        try:
            return await step
        except BaseException:
            self._changes.tell(name)
            raise

    async def get_version(self, name: str, number: int) -> FunctionVersion | None:
        key = self._key("versions", name)

        async def read(client: "Redis") -> bytes | None:
            stored: Any = client.hget(key, str(number))
            found: bytes | None = await stored
            return found

        stored = await self._connection.call(read)
        return None if stored is None else codec.published(stored, number)

    async def versions(self, name: str, *, after: int = 0, limit: int) -> Sequence[FunctionVersion]:
        key = self._key("versions", name)

        async def read(client: "Redis") -> list[tuple[int, bytes | None]]:
            every: Any = client.hkeys(key)
            numbers = sorted(int(number) for number in await every)
            wanted = [number for number in numbers if number > after][:limit]
            if not wanted:
                return []
            values: Any = client.hmget(key, [str(number) for number in wanted])
            return list(zip(wanted, await values, strict=True))

        found = await self._connection.call(read)
        # One deleted since its number was read is left out.
        return [codec.published(data, number) for number, data in found if data is not None]

    async def replace_version(self, version: FunctionVersion, *, expect_revision: str) -> bool:
        name = version.name
        step = self._connection.run(
            self._version_change,
            [self._key("versions", name)],
            [version.version, expect_revision, codec.encode(version), name],
        )
        done = bool(await self._change(name, step))
        if done:
            self._changes.tell(name)
        return done

    async def delete_version(self, function: Function, number: int) -> Sequence[str]:
        name = function.name
        keys = [self._key("fn", name), self._key("versions", name), self._beside(name, "bytes")]
        step = self._connection.run(self._version_delete, keys, [function.uid, number, name])
        naming = await self._change(name, step)
        if not naming:
            self._changes.tell(name)
        return sorted(text(alias) for alias in naming)

    async def put_alias(self, function: Function, alias: Alias, *, expect_revision: str | None) -> str:
        name = function.name
        published = [version for version in alias.versions if version != LATEST]
        head = (function.uid, alias.name, codec.encode(alias), name, expect_revision or "")
        keys = [self._key("fn", name), self._key("versions", name)]
        step = self._connection.run(self._alias_put, keys, [*head, *published])
        said = text(await self._change(name, step))
        if said == "gone":
            raise ResourceNotFoundException(f"Function not found: {name}")
        if said == "0":
            raise PreconditionFailedException()
        if said != "1":
            return said.removeprefix("no ")
        self._changes.tell(name)
        return ""

    async def delete_alias(self, name: str, alias: str) -> None:
        key = self._key("fn", name)

        async def url_of(client: "Redis") -> Any:
            return await cast("Awaitable[Any]", client.hget(key, URL + alias))

        url = await self._connection.call(url_of)
        removed = await self._change(name, self._connection.run(self._alias_delete, [key], [alias, name]))
        # The one that was read, too: of a step that was repeated the answer is that there was none.
        await self._forget_urls([codec.url(one) for one in (url, removed) if one])
        self._changes.tell(name)

    async def _forget_urls(self, urls: Iterable[FunctionUrl]) -> None:
        """After they are gone from their function: what is left here names nothing."""
        ids = [url.id for url in urls]

        async def forget(client: "Redis") -> None:
            await cast("Awaitable[Any]", client.hdel(URLS, *ids))

        if ids:
            await self._connection.call(forget)
