"""The Python client of Lambent's gRPC API, sync and async. It knows the API's messages and nothing of the
server.

from lambent.client import Client

with Client("127.0.0.1:9090") as client:
    print(client.invoke("hello", {"name": "you"}).json())
"""

try:
    from lambent.client.aio import AsyncClient
    from lambent.client.sync import Client
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.split(".")[0] not in ("grpc", "google"):
        raise
    raise ModuleNotFoundError(
        f"lambent.client needs the extra `grpc`: pip install 'lambent[grpc]' ({missing})", name=missing.name
    ) from None
from lambent.client.channel import Tls
from lambent.client.errors import LambentError
from lambent.client.values import Acknowledgement, Event, Invoked

__all__ = ["Acknowledgement", "AsyncClient", "Client", "Event", "Invoked", "LambentError", "Tls"]
