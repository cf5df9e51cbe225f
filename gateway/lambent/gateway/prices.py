"""What AWS would have charged: a table of prices, which is data, and one sum.

The table that ships is AWS's public one; `LAMBENT_PRICES` names a file of the same form with one's own (another
region's, another tier's, or a team's internal price). Prices are decimal texts, since binary fractions can't
say them.
"""

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from lambent.kernel.errors import ServiceException
from lambent.kernel.usage import Usage

_OWN = Path(__file__).with_name("prices.json")
_MB_MS_PER_GB_SECOND = 1024 * 1000


class Prices(NamedTuple):
    """`source`: where they are from, for people; `gb_second`: by architecture, in `currency`, as all."""

    source: str
    currency: str
    request: Decimal
    ephemeral_gb_second: Decimal
    gb_second: dict[str, Decimal]

    def cost(self, architecture: str, use: Usage) -> Decimal:
        """Of some usage on one architecture; x86_64's price for one that the table does not name."""
        price = self.gb_second.get(architecture, self.gb_second["x86_64"])
        return (
            use.invocations * self.request
            + gb_seconds(use) * price
            + Decimal(use.ephemeral_mb_ms) / _MB_MS_PER_GB_SECOND * self.ephemeral_gb_second
        )


def gb_seconds(use: Usage) -> Decimal:
    return Decimal(use.mb_ms) / _MB_MS_PER_GB_SECOND


def read_prices(file: Path | None) -> Prices:
    """AWS's, or those of a file. Raises ServiceException that says what is wrong with it."""
    path = file or _OWN
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        by_architecture = {str(name): _price(text) for name, text in table["gb_second"].items()}
        by_architecture["x86_64"]  # the one that must be there
        return Prices(
            source=str(table.get("source", path.name)),
            currency=str(table.get("currency", "USD")),
            request=_price(table["request"]),
            ephemeral_gb_second=_price(table["ephemeral_gb_second"]),
            gb_second=by_architecture,
        )
    except (OSError, ValueError, TypeError, AttributeError, InvalidOperation) as failure:
        raise ServiceException(f"The price table {path} can't be read: {failure}. {_FORM}") from failure
    except KeyError as missing:
        raise ServiceException(f"The price table {path} has no {missing}. {_FORM}") from missing


_FORM = (
    'Its form: {"request": "0.0000002", "ephemeral_gb_second": "0.0000000309", '
    '"gb_second": {"x86_64": "0.0000166667", "arm64": "0.0000133334"}}.'
)


def _price(text: object) -> Decimal:
    price = Decimal(str(text))
    if not price.is_finite() or price < 0:
        raise ValueError(f"{text!r} is no price")
    return price
