"""The function store's twin in memory: the same answers and errors, for tests that want no server.

It keeps what it is given, so it has no schema, shards or connection that could fail."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lambent.kernel.arn import LATEST
from lambent.kernel.errors import (
    InvalidParameterValueException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambent.kernel.models import (
    Alias,
    EventInvokeConfig,
    Function,
    FunctionUrl,
    FunctionVersion,
    LayerVersion,
    ProvisionedConfig,
    RecursiveLoop,
    Trigger,
)

MAX_TAGS = 50


class MemoryStore:
    """`ports.FunctionStore` of one process; gone with it."""

    def __init__(self) -> None:
        self._functions: dict[str, Function] = {}
        self._versions: dict[str, dict[int, FunctionVersion]] = {}
        self._layers: dict[str, dict[int, LayerVersion]] = {}
        self._last_number: dict[str, int] = {}
        self._triggers: dict[str, Trigger] = {}
        self._marks: dict[str, str] = {}
        self._callbacks: list[Callable[[str], None]] = []

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    async def hears_changes(self) -> None:
        """Nobody else can change anything."""

    def _changed(self, name: str) -> None:
        for callback in self._callbacks:
            callback(name)

    async def create(self, function: Function, *, publish: FunctionVersion | None = None) -> None:
        if function.name in self._functions:
            raise ResourceConflictException(f"Function already exist: {function.name}")
        self._functions[function.name] = function
        self._versions[function.name] = {}
        if publish is not None:
            self._publish(function, publish)
        self._changed(function.name)

    async def get(self, name: str) -> Function | None:
        return self._functions.get(name)

    async def replace(
        self, function: Function, *, expect_revision: str, publish: FunctionVersion | None = None
    ) -> int:
        stored = self._functions.get(function.name)
        if stored is None or stored.uid != function.uid:
            raise ResourceNotFoundException(f"Function not found: {function.name}")
        if stored.latest.revision_id != expect_revision:
            raise PreconditionFailedException()
        if publish is not None and stored.last_version != function.last_version:
            raise PreconditionFailedException()
        changed = dataclasses.replace(stored, latest=function.latest, serving=function.serving)
        self._functions[function.name] = changed
        number = self._publish(changed, publish) if publish is not None else 0
        self._changed(function.name)
        return number

    def _publish(self, function: Function, version: FunctionVersion) -> int:
        number = function.last_version + 1
        self._functions[function.name] = dataclasses.replace(
            function, last_version=number, last_description=function.latest.description
        )
        self._versions[function.name][number] = dataclasses.replace(version, version=str(number))
        return number

    async def delete(self, name: str) -> Function | None:
        found = self._functions.pop(name, None)
        if found is not None:
            del self._versions[name]
            self._changed(name)
        return found

    async def get_version(self, name: str, number: int) -> FunctionVersion | None:
        return self._versions.get(name, {}).get(number)

    async def versions(self, name: str, *, after: int = 0, limit: int) -> Sequence[FunctionVersion]:
        stored = self._versions.get(name, {})
        return [stored[number] for number in sorted(stored) if number > after][:limit]

    async def replace_version(self, version: FunctionVersion, *, expect_revision: str) -> bool:
        stored = await self.get_version(version.name, int(version.version))
        if stored is None or stored.revision_id != expect_revision:
            return False
        self._versions[version.name][int(version.version)] = version
        self._changed(version.name)
        return True

    async def delete_version(self, function: Function, number: int) -> Sequence[str]:
        stored = self._functions.get(function.name)
        if stored is None or stored.uid != function.uid:
            return []
        naming = [alias.name for alias in stored.aliases.values() if str(number) in alias.versions]
        if not naming:
            self._versions[function.name].pop(number, None)
            self._forget_settings_of(stored, str(number))
        return sorted(naming)

    def _forget_settings_of(self, function: Function, qualifier: str) -> None:
        configs = {each: config for each, config in function.event_invoke.items() if each != qualifier}
        allocations = {each: config for each, config in function.provisioned.items() if each != qualifier}
        urls = {each: url for each, url in function.urls.items() if each != qualifier}
        self._set(function.name, event_invoke=configs, provisioned=allocations, urls=urls)

    async def put_alias(self, function: Function, alias: Alias, *, expect_revision: str | None) -> str:
        stored = self._functions.get(function.name)
        if stored is None or stored.uid != function.uid:
            raise ResourceNotFoundException(f"Function not found: {function.name}")
        there = stored.aliases.get(alias.name)
        if (there.revision_id if there is not None else None) != expect_revision:
            raise PreconditionFailedException()
        for version in alias.versions:
            if version != LATEST and int(version) not in self._versions[function.name]:
                return version
        if there is None:
            self._forget_settings_of(stored, alias.name)
        self._set(function.name, aliases=dict(sorted({**stored.aliases, alias.name: alias}.items())))
        return ""

    async def delete_alias(self, name: str, alias: str) -> None:
        stored = self._functions.get(name)
        if stored is not None:
            self._set(name, aliases={each: one for each, one in stored.aliases.items() if each != alias})
            self._forget_settings_of(self._functions[name], alias)

    async def page(self, *, after: str | None, limit: int) -> Sequence[Function]:
        names = sorted(name for name in self._functions if after is None or name > after)
        return [self._functions[name] for name in names[:limit]]

    async def set_tags(self, name: str, *, add: Mapping[str, str], remove: Iterable[str]) -> Mapping[str, str]:
        stored = self._functions.get(name)
        if stored is None:
            raise ResourceNotFoundException(f"Function not found: {name}")
        gone = set(remove)
        tags = {key: value for key, value in stored.tags.items() if key not in gone} | dict(add)
        if len(tags) > MAX_TAGS:
            raise InvalidParameterValueException(f"A function can have at most {MAX_TAGS} tags.")
        self._functions[name] = dataclasses.replace(stored, tags=dict(sorted(tags.items())))
        self._changed(name)
        return self._functions[name].tags

    async def set_reserved_concurrency(self, name: str, slots: int | None) -> None:
        self._set(name, reserved_concurrency=slots)

    async def set_recursive_loop(self, name: str, loop: RecursiveLoop) -> None:
        self._set(name, recursive_loop=loop)

    async def set_event_invoke(
        self, name: str, qualifier: str, change: Callable[[EventInvokeConfig | None], EventInvokeConfig | None]
    ) -> EventInvokeConfig | None:
        stored = self._functions.get(name)
        configs = dict(stored.event_invoke) if stored is not None else {}
        made = change(configs.pop(qualifier, None))
        if made is not None:
            configs[qualifier] = made
        self._set(name, event_invoke=dict(sorted(configs.items())))
        return made

    async def set_provisioned(self, name: str, qualifier: str, config: ProvisionedConfig | None) -> None:
        stored = self._functions.get(name)
        allocations = dict(stored.provisioned) if stored is not None else {}
        allocations.pop(qualifier, None)
        if config is not None:
            allocations[qualifier] = config
        self._set(name, provisioned=dict(sorted(allocations.items())))

    async def set_url(
        self, name: str, qualifier: str, url: FunctionUrl | None, *, before: FunctionUrl | None = None
    ) -> bool:
        stored = self._functions.get(name)
        urls = dict(stored.urls) if stored is not None else {}
        if stored is not None and urls.pop(qualifier, None) != before:
            return False
        if url is not None:
            if stored is not None and qualifier != LATEST and qualifier not in stored.aliases:
                raise ResourceNotFoundException(f"Function not found: {name}:{qualifier}")
            urls[qualifier] = url
        self._set(name, urls=dict(sorted(urls.items())))
        return True

    async def url(self, url_id: str) -> tuple[str, str] | None:
        for function in self._functions.values():
            for qualifier, url in function.urls.items():
                if url.id == url_id:
                    return function.name, qualifier
        return None

    def _set(self, name: str, **fields: Any) -> None:
        stored = self._functions.get(name)
        if stored is None:
            raise ResourceNotFoundException(f"Function not found: {name}")
        self._functions[name] = dataclasses.replace(stored, **fields)
        self._changed(name)

    async def usage(self) -> tuple[int, int]:
        functions = sum(function.latest.archive.size for function in self._functions.values())
        functions += sum(one.archive.size for each in self._versions.values() for one in each.values())
        layers = sum(layer.archive.size for versions in self._layers.values() for layer in versions.values())
        return functions + layers, len(self._functions)

    async def add_layer_version(self, layer: LayerVersion) -> LayerVersion:
        number = self._last_number.get(layer.name, 0) + 1
        self._last_number[layer.name] = number
        stored = dataclasses.replace(layer, version=number)
        self._layers.setdefault(layer.name, {})[number] = stored
        return stored

    async def get_layer_version(self, name: str, version: int) -> LayerVersion | None:
        return self._layers.get(name, {}).get(version)

    async def delete_layer_version(self, name: str, version: int) -> LayerVersion | None:
        return self._layers.get(name, {}).pop(version, None)

    async def layer_versions(self, name: str) -> Sequence[LayerVersion]:
        return sorted(self._layers.get(name, {}).values(), key=lambda layer: -layer.version)

    async def layers(self) -> Sequence[str]:
        return sorted(name for name, versions in self._layers.items() if versions)

    async def put_trigger(self, trigger: Trigger) -> None:
        self._triggers[trigger.id] = trigger

    async def triggers(self) -> Sequence[Trigger]:
        return [self._triggers[trigger_id] for trigger_id in sorted(self._triggers)]

    async def delete_trigger(self, trigger_id: str) -> bool:
        return self._triggers.pop(trigger_id, None) is not None

    async def mark_get(self, key: str) -> str | None:
        return self._marks.get(key)

    async def mark_set(self, key: str, value: str) -> None:
        self._marks[key] = value

    async def mark_first(self, key: str, value: str) -> str:
        return self._marks.setdefault(key, value)

    async def ping(self) -> None:
        """It is there."""
