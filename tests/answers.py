"""What a test's own HTTP server answers: Lambent's answers have a request id, other servers' have none."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LAMBENT = {"content-type": "application/json", "x-amzn-requestid": "11111111-2222-4333-8444-555555555555"}


@dataclass(frozen=True)
class Answer:
    """`silent`: none at all; `broken`: one that ends before its length."""

    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: LAMBENT)
    silent: bool = False
    broken: bool = False


def error(code: str, message: str, status: int = 400) -> Answer:
    """An error as AWS tells it."""
    body = json.dumps({"Type": "User", "Message": message}).encode()
    return Answer(body, status, {**LAMBENT, "x-amzn-errortype": code})


def said(value: Any) -> Answer:
    return Answer(json.dumps(value).encode())


class Something:
    """`answers`: by the path's end, the last one first, or by method and path's end ("PUT /code"); "" is every
    other path's. `asked`: (path, body), in order."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, Answer] = {"": Answer()}
        self.asked: list[tuple[str, bytes]] = []
        self.ended = threading.Event()

    def answer_to(self, method: str, path: str) -> Answer:
        for known, answer in reversed(self.answers.items()):
            only, _, end = known.rpartition(" ")
            if path.endswith(end) and only in ("", method):
                return answer
        raise AssertionError(f"no answer to {method} {path}")
