"""Which version an invocation runs."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import samples

from lambent.kernel.models import Alias, Function, FunctionVersion
from lambent.kernel.routing import Router, chosen

FUNCTION = replace(
    samples.function(),
    aliases={
        "live": Alias("live", "2", "r"),
        "dev": Alias("dev", "$LATEST", "r"),
        "both": Alias("both", "1", "r", weights={"2": 0.25}),
        "lost": Alias("lost", "9", "r"),
    },
    last_version=2,
)


async def version(function: Function, number: int) -> FunctionVersion | None:
    return replace(function.latest, version=str(number)) if number in (1, 2) else None


@pytest.mark.parametrize(
    ("qualifier", "ran"),
    [
        (None, ("$LATEST", "")),
        ("$LATEST", ("$LATEST", "")),
        ("1", ("1", "")),
        ("live", ("2", "live")),
        ("dev", ("$LATEST", "dev")),
        ("3", None),
        ("01", None),
        ("0", None),
        ("\u0661", None),
        ("9" * 100, None),
        ("gone", None),
        ("lost", None),
        ("$LATEST.PUBLISHED", None),
        ("", None),
    ],
)
async def test_a_qualifier_names_a_version_or_an_alias(
    qualifier: str | None, ran: tuple[str, str] | None
) -> None:
    route = await Router(version).route(FUNCTION, qualifier)
    assert (None if route is None else (route.target.version, route.alias)) == ran


async def test_latest_is_what_serves_while_an_update_is_prepared() -> None:
    serving = replace(FUNCTION.latest, generation=0)
    route = await Router(version).route(replace(FUNCTION, serving=serving), "dev")
    assert route is not None and route.target is serving


async def test_a_weight_is_the_share_of_the_second_version() -> None:
    router = Router(version, random.Random(7).random)
    ran = Counter[str]()
    for _ in range(4000):
        route = await router.route(FUNCTION, "both")
        assert route is not None and route.alias == "both"
        ran[route.target.version] += 1
    # The same seed gives the same counts: 0.25 of 4,000 is 1,000, with a standard deviation of 27.
    assert set(ran) == {"1", "2"} and abs(ran["2"] - 1000) < 100


@pytest.mark.parametrize(
    ("weight", "drawn", "version"),
    [(0.0, 0.0, "1"), (0.25, 0.0, "2"), (0.25, 0.2499, "2"), (0.25, 0.25, "1"), (1.0, 0.9999, "2")],
)
def test_the_bounds_of_a_weight(weight: float, drawn: float, version: str) -> None:
    assert chosen(Alias("a", "1", "r", weights={"2": weight}), lambda: drawn) == version
