"""What the queue needs of a broker, by one connection that one thread uses: the port between the threads of
this package and kombu's transports."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

DUE = "x-lambent-due"  # ms since the epoch; what comes before it is to wait for the rest
FIRST_PUT = "x-lambent-first-put"  # ms since the epoch: when it was first put on its line
FOR = "x-lambent-for"  # of a message in the cradle: its queue
CONTENT_TYPE = "application/x-lambent-event"
_BACK_SECONDS = 0.5


class LinkError(Exception):
    """The broker did not do it. `certain`: nothing was stored."""

    certain = False


class Refused(LinkError):
    """The broker said no to this one message: its queue is full, or has no leader."""

    certain = True


class Unroutable(LinkError):
    """There is no such queue."""

    certain = True


class Blocked(LinkError):
    """The broker takes no messages from anybody: it is out of memory or disk."""


class TimedOut(LinkError):
    """The broker did not answer in time."""


@dataclass(slots=True)
class Message:
    """On its way to a queue, or from it. `id`: the same for every copy of one message; `young`: its queue
    is too new to keep it. `tag`, `consumer`: the link's own, of a delivered one."""

    queue: str
    body: bytes
    id: str
    headers: dict[str, Any] = field(default_factory=dict)
    young: bool = False
    tag: Any = 0
    consumer: int = 0
    redelivered: bool = False


class Link(Protocol):
    """Any method may raise LinkError, or what kombu raises for a lost connection."""

    product: str  # for people: the broker's name and version
    cancelled: list[tuple[str, int]]  # (queue, consumer) that the broker has ended; the reader empties it

    @property
    def blocked(self) -> bool:
        """The broker takes no messages now."""

    def publish(self, messages: Sequence[Message]) -> list[LinkError | None]:
        """Of each message, once all are answered, None when it is stored as safely as the broker can. Raises
        when any may be stored or not."""

    def prepare(self) -> float:
        """Makes what is needed before any queue; seconds until it may be used."""

    def declare(self, queue: str, *, most: int) -> bool:
        """Makes the queue, if it is not there; whether it has. `most`: messages that it takes, 0: any."""

    def alive(self, queue: str) -> bool:
        """Whether the queue works."""

    def announce(self, queues: Sequence[str], *, settled: bool) -> None:
        """Writes queues into the register, and tells who watches it. `settled`: they keep what they take."""

    def watch(self) -> Mapping[str, bool]:
        """The queues of the register, and whether they are settled; new ones come in `heard` from now on."""

    def heard(self) -> Sequence[tuple[str, bool]]:
        """What was announced since the last call."""

    def subscribe(self, queue: str, window: int) -> int:
        """Has messages sent, at most `window` that are not settled; the number that they will carry as
        `consumer`."""

    def unsubscribe(self, queue: str) -> None:
        """What was sent stays."""

    def arrived(self) -> Sequence[Message]:
        """What has come since the last call, without waiting."""

    def files(self) -> Sequence[int]:
        """Descriptors that become readable when something has come."""

    def rest(self) -> float:
        """Seconds after which `arrived` is to be called although nothing became readable."""

    def ack(self, tags: Sequence[Any]) -> None:
        """They go."""

    def give_back(self, tags: Sequence[Any]) -> None:
        """They are ready again, at the head of their queues as well as the broker can."""

    def count(self, queue: str) -> int | None:
        """Messages that nobody was given; None: there is no such queue."""

    def take(self, queue: str, most: int) -> Iterator[Message]:
        """The oldest of a queue, one by one; `ack` them, or give them back."""

    def take_many(self, queue: str, most: int) -> list[Message]:
        """As `take`, at once: for a queue that nobody else reads."""

    def purge(self, queue: str) -> int:
        """Drops what nobody was given; how many."""

    def delete(self, queue: str) -> int:
        """Deletes it with all that is in it; how many that nobody was given. A queue that is not there is no
        error."""

    def close(self) -> None:
        """What was given and not settled goes back."""


def give_back(link: Link, queue: str, messages: Sequence[Message]) -> None:
    """And waits until they are there again, as far as nobody takes them: a broker may be slower with it than
    with the next question."""
    if not messages:
        return
    link.give_back([message.tag for message in messages])
    end = time.monotonic() + _BACK_SECONDS
    while (link.count(queue) or 0) < len(messages) and time.monotonic() < end:
        time.sleep(0.005)
