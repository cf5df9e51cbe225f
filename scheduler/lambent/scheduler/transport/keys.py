"""The names of every key that the transport uses, in one place, because a key that one atomic step touches must
carry the same hash tag as the others, or Redis Cluster refuses the step.

A queue belongs to the shard `crc32(tag) % shards`, where `tag` is what stands in braces in its name, else the
whole name: queues of one tag are in one shard, and a message may be replaced by one on another of them in one
step. Everything of a shard has the hash tag `{PREFIX:SHARD}`:

    {P:3}:s:QUEUE   stream   ready and in-flight messages: b (body), m (JSON of the rest), t (first put, ms),
                             r (if it was made ready again)
    {P:3}:z:QUEUE   zset     delayed messages: id -> due time, ms of the server's clock
    {P:3}:h:QUEUE   hash     delayed messages: id -> packed fields (cmsgpack)
    {P:3}:index     set      the queues of the shard that hold any message
    {P:3}:due       zset     queue -> earliest due time of its delayed messages
    {P:3}:notify    stream   capped hints: "queue q has got a message", "one is due in d ms"; a reader that may
                             have missed hints reads the index again, so a lost hint loses nothing
    P:meta          hash     schema number and shard count, fixed by the first client
    P:bind:EXCHANGE set      bindings of an exchange: routing key, pattern, queue
    P:exchanges     set      the exchanges that have bindings
"""

import zlib
from dataclasses import dataclass

SCHEMA = 1
SEPARATOR = "\x06\x16"  # as kombu's own Redis transport has it between the parts of a binding


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names for one prefix and shard count."""

    prefix: str
    shards: int

    def shard(self, queue: str) -> int:
        start = queue.find("{")
        end = queue.find("}", start + 2) if start >= 0 else -1  # as Redis has it: {} is no tag
        tag = queue[start + 1 : end] if end > 0 else queue
        return zlib.crc32(tag.encode()) % self.shards

    def _tag(self, shard: int) -> str:
        return f"{{{self.prefix}:{shard}}}"

    def stream(self, queue: str) -> str:
        return f"{self._tag(self.shard(queue))}:s:{queue}"

    def delayed(self, queue: str) -> str:
        return f"{self._tag(self.shard(queue))}:z:{queue}"

    def bodies(self, queue: str) -> str:
        return f"{self._tag(self.shard(queue))}:h:{queue}"

    def index(self, shard: int) -> str:
        return f"{self._tag(shard)}:index"

    def due(self, shard: int) -> str:
        return f"{self._tag(shard)}:due"

    def notify(self, shard: int) -> str:
        return f"{self._tag(shard)}:notify"

    def meta(self) -> str:
        return f"{self.prefix}:meta"

    def exchanges(self) -> str:
        return f"{self.prefix}:exchanges"

    def bindings(self, exchange: str) -> str:
        return f"{self.prefix}:bind:{exchange}"

    def of_queue(self, queue: str) -> tuple[str, str, str, str, str, str]:
        """(stream, delayed, bodies, index, due, notify): what every script on a queue declares, in this
        order."""
        shard = self.shard(queue)
        tag = self._tag(shard)
        return (
            f"{tag}:s:{queue}",
            f"{tag}:z:{queue}",
            f"{tag}:h:{queue}",
            f"{tag}:index",
            f"{tag}:due",
            f"{tag}:notify",
        )
