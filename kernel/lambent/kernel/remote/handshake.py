"""The first frames of a connection, on both sides: who speaks, to which executor, and with which proof.

Client: Hello. Server: Challenge. Client: Proof. Server: Welcome. Before its end nothing else is taken, and
frames are small.
"""

from lambent.internal.v1.host_pb2 import Challenge, Frame, Hello, Proof, Welcome
from lambent.kernel.remote.auth import NONCE, PROTOCOL, Access, nonce
from lambent.kernel.remote.frames import BadFrame


class Refusal(BadFrame):
    """One that the other side is told before the connection is closed."""


class ClientHandshake:
    """`executor`: the id that must answer; `name`: who speaks, for the executor's log."""

    def __init__(self, access: Access, executor: str, name: str) -> None:
        self._access = access
        self._executor = executor
        self._name = name
        self._nonces = (nonce(), b"")

    def hello(self) -> Frame:
        return Frame(
            hello=Hello(
                protocol=PROTOCOL, nonce=self._nonces[0], executor=self._executor, client=self._name[:200]
            )
        )

    def receive(self, kind: str | None, frame: Frame) -> Frame | Welcome:
        """What to send next, or the end of it. Raises BadFrame."""
        if kind == "failed":
            raise BadFrame(f"it refuses: {frame.failed.message}")
        if kind == "challenge" and not self._nonces[1]:
            return Frame(proof=Proof(mac=self._prove(frame.challenge)))
        if kind == "welcome" and self._nonces[1]:
            mac = frame.welcome.mac
            if not self._access.proved(mac, "executor", nonces=self._nonces, executor=self._executor):
                raise BadFrame("it does not have the same cluster key")
            return frame.welcome
        raise BadFrame(f"it says {kind} before the handshake is over")

    def _prove(self, challenge: Challenge) -> bytes:
        if challenge.protocol != PROTOCOL or len(challenge.nonce) != NONCE:
            raise BadFrame("it speaks another protocol")
        if challenge.keyed != (self._access.key is not None):
            raise BadFrame("one side has a cluster key and the other has none")
        self._nonces = (self._nonces[0], challenge.nonce)
        return self._access.proof("client", nonces=self._nonces, executor=self._executor)


class ServerHandshake:
    """`executor`: this one's id; `streams` and `targets`: what the client is told."""

    def __init__(self, access: Access, executor: str, *, streams: int, targets: int) -> None:
        self._access = access
        self._executor = executor
        self._limits = streams, targets
        self._nonces = (b"", b"")
        self._wanted = ""
        self.client = ""
        """Who speaks, by its own account."""
        self.done = False

    def receive(self, kind: str | None, frame: Frame) -> Frame:
        """What to send next. Raises BadFrame; a Refusal where the client is to be told."""
        if kind == "hello" and not self._nonces[0]:
            return self._challenge(frame.hello)
        if kind == "proof" and self._nonces[0]:
            return self._welcome(frame.proof.mac)
        raise BadFrame(f"it says {kind} before the handshake is over")

    def _challenge(self, hello: Hello) -> Frame:
        if hello.protocol != PROTOCOL or len(hello.nonce) != NONCE:
            raise Refusal(f"This executor speaks version {PROTOCOL} of the protocol.")
        self.client, self._wanted = hello.client[:200], hello.executor
        self._nonces = (hello.nonce, nonce())
        keyed = self._access.key is not None
        return Frame(challenge=Challenge(protocol=PROTOCOL, nonce=self._nonces[1], keyed=keyed))

    def _welcome(self, mac: bytes) -> Frame:
        if not self._access.proved(mac, "client", nonces=self._nonces, executor=self._wanted):
            raise Refusal("The cluster key is not this executor's.")
        if self._wanted != self._executor:
            raise Refusal(f"This is another executor: {self._executor}.")
        self.done = True
        proof = self._access.proof("executor", nonces=self._nonces, executor=self._executor)
        return Frame(welcome=Welcome(mac=proof, streams=self._limits[0], targets=self._limits[1]))
