import pytest

from lambent.gateway.web_pages import WebPages
from lambent.kernel.errors import AccessDeniedException

Headers = list[tuple[bytes, bytes]]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"host", b"127.0.0.1:9000")],
        [(b"host", b"localhost:9000")],
        [(b"host", b"LOCALHOST")],
        [(b"host", b"abc.lambda.localhost:9000")],
        [(b"host", b"[::1]:9000")],
        [(b"host", b"10.0.0.7:9000")],
        [],
        [(b"sec-fetch-site", b"none")],
    ],
)
def test_tools_are_served(headers: Headers) -> None:
    WebPages("127.0.0.1").refuse(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"host", b"evil.example:9000")],
        [(b"host", b"127.0.0.1.evil.example")],
        [(b"host", b"localhost.evil.example")],
        [(b"host", b"")],
        [(b"origin", b"http://evil.example")],
        [(b"origin", b"null")],
        [(b"sec-fetch-site", b"cross-site")],
        [(b"sec-fetch-site", b"same-site")],
        [(b"sec-fetch-site", b"same-origin")],
    ],
)
def test_web_pages_are_not(headers: Headers) -> None:
    pages = WebPages("127.0.0.1")
    for _ in range(2):  # the second time from what is known
        with pytest.raises(AccessDeniedException):
            pages.refuse(headers)


def test_a_server_for_others_has_any_name_but_still_no_web_pages() -> None:
    pages = WebPages("0.0.0.0")
    pages.refuse([(b"host", b"lambent.example")])
    with pytest.raises(AccessDeniedException):
        pages.refuse([(b"host", b"lambent.example"), (b"origin", b"http://evil.example")])


def test_the_name_it_listens_on_is_its_own() -> None:
    WebPages("localhost").refuse([(b"host", b"localhost:9000")])
