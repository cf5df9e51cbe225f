"""Which version an invocation runs: a qualifier names a version, or an alias that names one or, by weight, two.
The gateway and the lanes ask the same question. AWS: "Lambda function versions", "weighted alias"."""

import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from lambent.kernel.arn import LATEST, version_number
from lambent.kernel.models import Alias, Function, FunctionVersion


class Route(NamedTuple):
    """What runs, and the alias that led to it."""

    target: FunctionVersion
    alias: str = ""


class Router:
    """`version(function, number)` answers a published version, or None; `draw()`: evenly from [0, 1)."""

    def __init__(
        self,
        version: Callable[[Function, int], Awaitable[FunctionVersion | None]],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._version = version
        self._draw = draw

    async def route(self, function: Function, qualifier: str | None) -> Route | None:
        """None: there is no such version or alias. A weighted alias is drawn anew each time."""
        if qualifier is None or qualifier == LATEST:
            return Route(function.to_run)
        alias = function.aliases.get(qualifier)
        version = qualifier if alias is None else chosen(alias, self._draw)
        name = "" if alias is None else alias.name
        if version == LATEST:
            return Route(function.to_run, name)
        number = version_number(version)
        target = await self._version(function, number) if number is not None else None
        return None if target is None else Route(target, name)


def chosen(alias: Alias, draw: Callable[[], float]) -> str:
    """The version of one invocation."""
    if alias.weights:
        drawn = draw()
        for version, weight in alias.weights.items():
            if drawn < weight:
                return version
            drawn -= weight
    return alias.function_version
