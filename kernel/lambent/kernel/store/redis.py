"""Functions, layers, triggers and marks in Redis or Valkey, because every role on every machine must see one
truth that survives any of them.

Key schema: each file `*.lua` beside this one has it in its header; besides, in shard 0:
  lambent:{s0}:store     hash: schema (raised by a release that lays it out anew), shards (fixed at the store's
                         first start)
  lambent:{s0}:triggers  hash: trigger id -> JSON
  lambent:{s0}:marks     hash: mark -> text
The part in braces is the hash tag: all keys that one step touches are in one slot of a Redis Cluster.
Every step is safe to repeat, so that a lost connection may be answered by doing it again.
"""

import dataclasses
import functools
import heapq
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lambent.kernel.arn import LATEST
from lambent.kernel.errors import (
    InvalidParameterValueException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceException,
)
from lambent.kernel.models import (
    EventInvokeConfig,
    Function,
    FunctionUrl,
    FunctionVersion,
    LayerVersion,
    ProvisionedConfig,
    RecursiveLoop,
    Trigger,
)
from lambent.kernel.store import codec
from lambent.kernel.store.connection import Connection, Script, text
from lambent.kernel.store.redis_versions import ALIAS, URL, URLS, VersionSteps

if TYPE_CHECKING:
    from redis.asyncio import Redis

MAX_TAGS = 50

_RESERVED, _RECURSION, _INVOKE, _TAG = "reserved", "recursion", "invoke:", "tag:"
_PROVISIONED = "provisioned:"
_STORE, _TRIGGERS, _MARKS = "lambent:{s0}:store", "lambent:{s0}:triggers", "lambent:{s0}:marks"


class RedisStore(VersionSteps):
    """`ports.FunctionStore`. `shards` is fixed at a store's first start. All errors of the server's own are
    ServiceException, after 3 seconds at most; it goes on by itself when the server is back."""

    def __init__(self, url_or_client: "str | Redis", *, shards: int) -> None:
        super().__init__(Connection(url_or_client, what="The function store's"), shards)
        # Deletes whose answer never came: {name: what was there}.
        self._undecided: dict[str, Function] = {}
        self._create, self._replace, self._delete, self._tags, self._field = (
            Script(f"function_{name}.lua") for name in ("create", "replace", "delete", "tags", "field")
        )
        self._layer_add, self._layer_delete = (Script(f"layer_{name}.lua") for name in ("add", "delete"))

    async def open(self) -> None:
        """Connects and checks the server and the store. Raises ServiceException: no answer, an eviction
        policy, another shard count, a newer schema."""
        await self._connection.require_durable()
        await self._check_layout()
        self._changes.start(self._connection.client)

    async def close(self) -> None:
        await self._changes.close()
        await self._connection.close()

    def on_change(self, callback: Callable[[str], None]) -> None:
        """`callback(name)` after each change made here or elsewhere, some told twice, and after a change
        that got no answer; `callback("*")` when changes may have been missed. Changes made elsewhere are heard
        soon, or never: see `changes`."""
        self._changes.add(callback)

    async def hears_changes(self) -> None:
        """Waits until changes made elsewhere are heard."""
        await self._changes.subscribed()

    async def _check_layout(self) -> None:
        async def fix(client: "Redis") -> Sequence[bytes]:
            async with client.pipeline(transaction=True) as step:
                step.hsetnx(_STORE, "schema", str(codec.LAYOUT))
                step.hsetnx(_STORE, "shards", str(self._shards))
                step.hmget(_STORE, ["schema", "shards"])
                stored: Sequence[bytes] = (await step.execute())[-1]
                return stored

        schema, shards = (int(number) for number in await self._connection.call(fix))
        codec.refuse_newer(schema, "The function store", newest=codec.LAYOUT)
        if shards != self._shards:
            raise ServiceException(
                f"The function store was made with {shards} shards, and the setting `shards` is "
                f"{self._shards}. The number is fixed at a store's first start: set LAMBENT_SHARDS={shards}."
            )
        if schema < codec.LAYOUT:
            # What an older release wrote is read as it is; one that is started after this refuses the store.
            layout = str(codec.LAYOUT)
            await self._connection.call(lambda client: _await(client.hset(_STORE, "schema", layout)))

    # Functions

    def _function_keys(self, name: str) -> list[str]:
        names = self._beside(name, "functions")
        return [self._key("fn", name), names, self._beside(name, "bytes"), self._key("versions", name)]

    async def create(self, function: Function, *, publish: FunctionVersion | None = None) -> None:
        name, latest = function.name, function.latest
        fields: list[str | bytes] = ["latest", codec.encode(latest)]
        if function.serving is not None:
            fields += ["serving", codec.encode(function.serving)]
        if function.reserved_concurrency is not None:
            fields += [_RESERVED, str(function.reserved_concurrency)]
        if function.recursive_loop is not RecursiveLoop.TERMINATE:
            fields += [_RECURSION, function.recursive_loop.value]
        for qualifier, config in function.event_invoke.items():
            fields += [_INVOKE + qualifier, codec.encode(config)]
        for qualifier, allocation in function.provisioned.items():
            fields += [_PROVISIONED + qualifier, codec.encode(allocation)]
        for qualifier, url in function.urls.items():
            fields += [URL + qualifier, codec.encode(url)]
        for key, value in function.tags.items():
            fields += [codec.utf8(_TAG + key), codec.utf8(value)]
        if publish is not None:
            fields += [
                "last",
                "1",
                "last_revision",
                publish.revision_id,
                "version_bytes",
                str(publish.archive.size),
            ]
            fields += ["last_description", codec.utf8(latest.description)]
        first = codec.encode(publish) if publish is not None else ""
        head = (name, function.uid, latest.revision_id, latest.archive.size, name, first)
        step = self._connection.run(self._create, self._function_keys(name), [*head, *fields])
        done = await self._change(name, step)
        if not done:
            raise ResourceConflictException(f"Function already exist: {name}")
        self._undecided.pop(name, None)
        self._changes.tell(name)

    async def get(self, name: str) -> Function | None:
        key = self._key("fn", name)
        return _function(name, await self._connection.call(lambda client: _hash(client, key)))

    async def replace(
        self, function: Function, *, expect_revision: str, publish: FunctionVersion | None = None
    ) -> int:
        """Tags and what else has a setter of its own are left as they are stored."""
        name, latest = function.name, function.latest
        args: list[str | bytes | int] = [
            *(function.uid, expect_revision, latest.revision_id, latest.archive.size),
            name,
            codec.encode(latest),
            codec.encode(function.serving) if function.serving is not None else "",
        ]
        if publish is not None:
            args += [publish.revision_id, publish.archive.size, codec.encode(publish)]
            args += [function.last_version, codec.utf8(latest.description)]
        keys = [self._key("fn", name), self._beside(name, "bytes"), self._key("versions", name)]
        done: int = await self._change(name, self._connection.run(self._replace, keys, args))
        if done < 0:
            raise ResourceNotFoundException(f"Function not found: {name}")
        if not done:
            raise PreconditionFailedException()
        self._changes.tell(name)
        return done if publish is not None else 0

    async def delete(self, name: str) -> Function | None:
        found = await self.get(name)
        earlier = self._undecided.pop(name, None)
        if found is None:
            # Gone: by our earlier try, if one got no answer, and its caller has still to clean up after it.
            self._changes.tell(name)
            return earlier
        removed: list[Any] = []
        tries = 0

        async def step(client: "Redis") -> None:
            nonlocal removed, tries
            tries += 1
            args = [name, found.uid, name]
            removed = await self._delete(client, self._function_keys(name), args)

        try:
            await self._change(name, self._connection.call(step))
        except BaseException:
            self._undecided[name] = found
            raise
        self._changes.tell(name)
        if not removed:
            # Gone before our first try: somebody else removed it. After a lost answer: it was probably us, and
            # the caller must clean up after it; doing that twice does no harm.
            return found if tries > 1 else None
        gone = _function(name, dict(zip(removed[::2], removed[1::2], strict=True)))
        if gone is not None:
            await self._forget_urls(gone.urls.values())
        return gone

    async def page(self, *, after: str | None, limit: int) -> Sequence[Function]:
        functions: list[Function] = []
        while len(functions) < limit:
            names = await self._names(after, limit - len(functions))
            if not names:
                break
            keys = [self._key("fn", name) for name in names]
            hashes = await self._connection.call(functools.partial(_hashes, keys=keys))
            found = (_function(name, stored) for name, stored in zip(names, hashes, strict=True))
            # One deleted since its name was read is left out, and the next name takes its place.
            functions += [function for function in found if function is not None]
            after = names[-1]
        return functions

    async def _names(self, after: str | None, limit: int) -> list[str]:
        start = "-" if after is None else f"({after}"

        async def read(client: "Redis") -> list[list[bytes]]:
            async with client.pipeline(transaction=False) as batch:
                for shard in range(self._shards):
                    batch.zrangebylex(self._tag(shard) + "functions", start, "+", start=0, num=limit)
                answers: list[list[bytes]] = await batch.execute()
                return answers

        # Each shard's first `limit` names hold the first `limit` of all.
        merged = heapq.merge(*await self._connection.call(read))
        return [text(name) for name, _ in zip(merged, range(limit), strict=False)]

    async def set_tags(self, name: str, *, add: Mapping[str, str], remove: Iterable[str]) -> Mapping[str, str]:
        removals = [codec.utf8(key) for key in remove]
        additions = [codec.utf8(part) for pair in add.items() for part in pair]
        step = self._connection.run(
            self._tags,
            [self._key("fn", name)],
            [MAX_TAGS, name, len(removals), *removals, *additions],
        )
        answer = await self._change(name, step)
        said, *tags = [text(part) for part in answer]
        if said == "gone":
            raise ResourceNotFoundException(f"Function not found: {name}")
        if said == "many":
            raise InvalidParameterValueException(f"A function can have at most {MAX_TAGS} tags.")
        self._changes.tell(name)
        return dict(sorted(zip(tags[::2], tags[1::2], strict=True)))

    async def set_reserved_concurrency(self, name: str, slots: int | None) -> None:
        await self._set_field(name, _RESERVED, "" if slots is None else str(slots))

    async def set_recursive_loop(self, name: str, loop: RecursiveLoop) -> None:
        await self._set_field(name, _RECURSION, loop.value)

    async def set_event_invoke(
        self, name: str, qualifier: str, change: Callable[[EventInvokeConfig | None], EventInvokeConfig | None]
    ) -> EventInvokeConfig | None:
        key, field = self._key("fn", name), _INVOKE + qualifier
        while True:
            stored = await self._connection.call(lambda client: _field(client, key, field))
            made = change(None if stored is None else codec.event_invoke(stored))
            value = "" if made is None else codec.encode(made)
            if await self._set_field(name, field, value, expect=stored or ""):
                return made

    async def set_url(
        self, name: str, qualifier: str, url: FunctionUrl | None, *, before: FunctionUrl | None = None
    ) -> bool:
        key, field = self._key("fn", name), URL + qualifier
        stored = await self._connection.call(lambda client: _field(client, key, field))
        stands = None if stored is None else codec.url(stored)
        if stands != before:
            if await self.get(name) is None:
                raise ResourceNotFoundException(f"Function not found: {name}")
            return False
        if url is not None and before is None:
            # First: a URL that stands is always found; one that a crash lets never stand is found nowhere.
            await self._index(URLS, url.id, f"{name}:{qualifier}")
        try:
            value = "" if url is None else codec.encode(url)
            beside = ALIAS + qualifier if url is not None and qualifier != LATEST else None
            done = await self._set_field(name, field, value, expect=stored or "", beside=beside)
        except ResourceNotFoundException:
            if url is not None:
                await self._forget_urls([url])
            raise
        lost = url if not done and before is None else before if done and url is None else None
        if lost is not None:
            await self._forget_urls([lost])
        return done

    async def url(self, url_id: str) -> tuple[str, str] | None:
        found = await self._connection.call(lambda client: _field(client, URLS, url_id))
        if found is None:
            return None
        name, _, qualifier = text(found).partition(":")
        return name, qualifier

    async def set_provisioned(self, name: str, qualifier: str, config: ProvisionedConfig | None) -> None:
        await self._set_field(name, _PROVISIONED + qualifier, "" if config is None else codec.encode(config))

    async def _set_field(
        self,
        name: str,
        field: str,
        value: str | bytes,
        *,
        expect: str | bytes | None = None,
        beside: str | None = None,
    ) -> bool:
        """False: it is not what was expected any more. `beside`: a field without which this one may not be.
        Raises ResourceNotFoundException."""
        more = [each for each in (expect, beside) if each is not None]
        step = self._connection.run(self._field, [self._key("fn", name)], [field, value, name, *more])
        done = await self._change(name, step)
        if done < 0:
            raise ResourceNotFoundException(f"Function not found: {name}")
        if done:
            self._changes.tell(name)
        return bool(done)

    async def usage(self) -> tuple[int, int]:
        async def read(client: "Redis") -> list[Any]:
            async with client.pipeline(transaction=False) as batch:
                for shard in range(self._shards):
                    batch.get(self._tag(shard) + "bytes")
                    batch.zcard(self._tag(shard) + "functions")
                return await batch.execute()

        answers = await self._connection.call(read)
        return sum(int(size or 0) for size in answers[::2]), sum(answers[1::2])

    # Layers

    async def add_layer_version(self, layer: LayerVersion) -> LayerVersion:
        number = await self._connection.run(
            self._layer_add,
            self._layer_keys(layer.name),
            [layer.name, secrets.token_hex(16), layer.archive.size, codec.encode(layer)],
        )
        return dataclasses.replace(layer, version=number)

    def _layer_keys(self, name: str) -> list[str]:
        return [self._key("layer", name), self._beside(name, "layers"), self._beside(name, "bytes")]

    async def get_layer_version(self, name: str, version: int) -> LayerVersion | None:
        key = self._key("layer", name)
        stored: Any = await self._connection.call(lambda client: _field(client, key, f"v:{version}"))
        return None if stored is None else codec.layer_version(stored, version)

    async def delete_layer_version(self, name: str, version: int) -> LayerVersion | None:
        found = await self.get_layer_version(name, version)
        if found is not None:
            # A number is never used again, so what was read is what is deleted, by us or by another.
            await self._connection.run(self._layer_delete, self._layer_keys(name), [name, version])
        return found

    async def layer_versions(self, name: str) -> Sequence[LayerVersion]:
        key = self._key("layer", name)
        stored = await self._connection.call(lambda client: _hash(client, key))
        return sorted(_layer_versions(stored), key=lambda layer: -layer.version)

    async def layers(self) -> Sequence[str]:
        async def read(client: "Redis") -> list[set[bytes]]:
            async with client.pipeline(transaction=False) as batch:
                for shard in range(self._shards):
                    batch.smembers(self._tag(shard) + "layers")
                answers: list[set[bytes]] = await batch.execute()
                return answers

        return sorted(text(name) for names in await self._connection.call(read) for name in names)

    # Triggers and marks

    async def put_trigger(self, trigger: Trigger) -> None:
        data = codec.encode(trigger)
        await self._connection.call(lambda client: _await(client.hset(_TRIGGERS, trigger.id, data)))

    async def triggers(self) -> Sequence[Trigger]:
        stored = await self._connection.call(lambda client: _hash(client, _TRIGGERS))
        return sorted((codec.trigger(data) for data in stored.values()), key=lambda trigger: trigger.id)

    async def delete_trigger(self, trigger_id: str) -> bool:
        if await self._connection.call(lambda client: _field(client, _TRIGGERS, trigger_id)) is None:
            return False
        await self._connection.call(lambda client: _await(client.hdel(_TRIGGERS, trigger_id)))
        return True

    async def mark_get(self, key: str) -> str | None:
        value = await self._connection.call(lambda client: _field(client, _MARKS, key))
        return None if value is None else text(value)

    async def mark_set(self, key: str, value: str) -> None:
        await self._index(_MARKS, key, value)

    async def _index(self, hash_key: str, key: str, value: str) -> None:
        await self._connection.call(lambda client: _await(client.hset(hash_key, key, codec.utf8(value))))

    async def mark_first(self, key: str, value: str) -> str:
        await self._connection.call(lambda client: _await(client.hsetnx(_MARKS, key, codec.utf8(value))))
        return await self.mark_get(key) or value

    async def ping(self) -> None:
        await self._connection.call(lambda client: _await(client.ping()))


async def _await(reply: Any) -> Any:
    """redis-py types its commands for both of its clients: here the answer is always awaited."""
    return await reply


async def _hash(client: "Redis", key: str) -> Mapping[bytes, bytes]:
    stored: Mapping[bytes, bytes] = await _await(client.hgetall(key))
    return stored


async def _field(client: "Redis", key: str, field: str) -> bytes | None:
    stored: bytes | None = await _await(client.hget(key, field))
    return stored


async def _hashes(client: "Redis", keys: Iterable[str]) -> list[Mapping[bytes, bytes]]:
    async with client.pipeline(transaction=False) as batch:
        for key in keys:
            batch.hgetall(key)
        answers: list[Mapping[bytes, bytes]] = await batch.execute()
        return answers


def _function(name: str, stored: Mapping[bytes, bytes]) -> Function | None:
    if not stored:
        return None
    serving = stored.get(b"serving")
    beside = {text(field): value for field, value in stored.items()}
    reserved = beside.get(_RESERVED)
    return Function(
        name=name,
        uid=text(stored[b"uid"]),
        latest=codec.function_version(stored[b"latest"]),
        serving=None if serving is None else codec.function_version(serving),
        tags={key: text(value) for key, value in _under(_TAG, beside)},
        reserved_concurrency=None if reserved is None else int(reserved),
        event_invoke={qualifier: codec.event_invoke(data) for qualifier, data in _under(_INVOKE, beside)},
        provisioned={qualifier: codec.provisioned(data) for qualifier, data in _under(_PROVISIONED, beside)},
        urls={qualifier: codec.url(data) for qualifier, data in _under(URL, beside)},
        recursive_loop=RecursiveLoop(text(beside.get(_RECURSION, RecursiveLoop.TERMINATE.value))),
        aliases={alias: codec.alias(data) for alias, data in _under(ALIAS, beside)},
        last_version=int(beside.get("last", 0)),
        last_description=text(beside.get("last_description", "")),
    )


def _under(prefix: str, fields: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """The fields of that prefix, by the rest of their names."""
    return sorted((name[len(prefix) :], value) for name, value in fields.items() if name.startswith(prefix))


def _layer_versions(stored: Mapping[bytes, bytes]) -> Iterator[LayerVersion]:
    for field, data in stored.items():
        if field.startswith(b"v:"):
            yield codec.layer_version(data, int(field[2:]))
