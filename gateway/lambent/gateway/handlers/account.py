"""The account's limits and usage. AWS: GetAccountSettings."""

from collections.abc import Mapping
from typing import Any

from lambent.gateway.handlers.archives import MAX_DIRECT, MAX_STORAGE, MAX_UNZIPPED
from lambent.gateway.services import Call, Services

_PAGE = 100


async def get_account_settings(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Limits as they are enforced here; unreserved is what reservations and allocations leave of the
    concurrency limit."""
    limit = services.settings.concurrent_executions
    used, count = await services.store.usage()
    return {
        "AccountLimit": {
            "TotalCodeSize": MAX_STORAGE,
            "CodeSizeUnzipped": MAX_UNZIPPED,
            "CodeSizeZipped": MAX_DIRECT,
            "ConcurrentExecutions": limit,
            "UnreservedConcurrentExecutions": limit - await carved_in_all(services),
        },
        "AccountUsage": {"TotalCodeSize": used, "FunctionCount": count},
    }


async def carved_in_all(services: Services, *, but: str | None = None) -> int:
    """Slots that functions have of their own: reserved, or provisioned without a reservation; leaving out the
    function `but`."""
    total, after = 0, None
    while rows := await services.store.page(after=after, limit=_PAGE):
        total += sum(function.carved or 0 for function in rows if function.name != but)
        after = rows[-1].name
    return total
