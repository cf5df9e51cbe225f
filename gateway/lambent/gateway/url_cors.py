"""Cross-origin requests to function URLs, by their configuration. Pure. AWS: Cors of a function URL."""

from collections.abc import Sequence

from lambent.kernel.models import Cors

Headers = Sequence[tuple[bytes, bytes]]
Made = list[tuple[bytes, bytes]]


def value_of(headers: Headers, wanted: bytes) -> str | None:
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return None


def preflight(cors: Cors, method: str, headers: Headers) -> Made | None:
    """The headers of the answer to a preflight request; None: it is none, and the function's to answer."""
    origin = value_of(headers, b"origin")
    if method != "OPTIONS" or origin is None or value_of(headers, b"access-control-request-method") is None:
        return None
    made = _allowed(cors, origin)
    if made:
        for name, values in (
            (b"access-control-allow-methods", cors.allow_methods),
            (b"access-control-allow-headers", cors.allow_headers),
        ):
            if values:
                made.append((name, ",".join(values).encode("latin-1", "replace")))
        if cors.max_age is not None:
            made.append((b"access-control-max-age", b"%d" % cors.max_age))
    return made


def added(cors: Cors, headers: Headers, answered: Made) -> Made:
    """The headers of an answer with the configuration's own in the place of the function's."""
    rest = [(name, value) for name, value in answered if not name.startswith(b"access-control-")]
    origin = value_of(headers, b"origin")
    if origin is None:
        return rest
    made = _allowed(cors, origin)
    if made and cors.expose_headers:
        made.append(
            (b"access-control-expose-headers", ",".join(cors.expose_headers).encode("latin-1", "replace"))
        )
    return [*rest, (b"vary", b"Origin"), *made]


def _allowed(cors: Cors, origin: str) -> Made:
    """Nothing for an origin that is not allowed. With credentials a browser takes no *."""
    origins = cors.allow_origins or ()
    if origin not in origins and "*" not in origins:
        return []
    told = "*" if "*" in origins and not cors.allow_credentials else origin
    made = [(b"access-control-allow-origin", told.encode("latin-1", "replace"))]
    if cors.allow_credentials:
        made.append((b"access-control-allow-credentials", b"true"))
    return made
