"""One typed tree of settings, read once and then frozen: flags over `LAMBENT_*` over `lambent.toml` over the
defaults below. Each field says its unit and why one would change it.

The toml file is the one named by `LAMBENT_CONFIG`, else `lambent.toml` in the data folder.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from lambent.kernel import shares
from lambent.kernel.redis_urls import plain_redis_url
from lambent.kernel.shares import Shared

# Variables that are read elsewhere: the endpoint of the commands, the toml file's name.
_OTHER_VARIABLES = ("LAMBENT_CONFIG", "LAMBENT_ENDPOINT")
_KEYS = "LAMBENT_FUNCTION_AWS_ACCESS_KEY_ID and LAMBENT_FUNCTION_AWS_SECRET_ACCESS_KEY"
# AWS: names of buckets; of keys the characters that are safe everywhere.
_S3_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()-]{1,100}){0,8}")
_TEST_VARIABLES = "LAMBENT_TEST_"


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/lambent`, else `~/.local/share/lambent`; as root `/var/lib/lambent`."""
    if os.geteuid() == 0:
        return Path("/var/lib/lambent")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "lambent"


class Settings(BaseSettings):
    """All settings of a server."""

    model_config = SettingsConfigDict(env_prefix="LAMBENT_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field(
        default="127.0.0.1", description="Address to listen on. Loopback unless told: any key works for now."
    )
    port: int = Field(default=9000, ge=0, le=65535, description="Port of the API; 0 takes a free one.")
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of the gRPC API, on the same address; 0 takes a free one. Unset: no gRPC.",
    )
    grpc_tls_cert: Path | None = Field(
        default=None,
        description="gRPC's certificate chain, a PEM file. Without TLS it serves on loopback only.",
    )
    grpc_tls_key: Path | None = Field(
        default=None, validate_default=True, description="The certificate's key, a PEM file without passphrase."
    )
    grpc_tls_client_ca: Path | None = Field(
        default=None,
        validate_default=True,
        description="PEM file of who signs gRPC's clients' certificates; set: others are refused.",
    )
    internal_host: str = Field(
        default="127.0.0.1",
        description="Address that `lambent scheduler` and `lambent executor` serve the other roles on. Beyond "
        "loopback it needs LAMBENT_CLUSTER_KEY or certificates.",
    )
    internal_port: int = Field(
        default=0, ge=0, le=65535, description="Port there, of gRPC or of invocations; 0 takes a free one."
    )
    advertise: str | None = Field(
        default=None, description="How the other roles reach this one; unset: as LAMBENT_INTERNAL_HOST says."
    )
    cluster_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="What the roles of a cluster prove to each other; the same for all, 16 characters or more.",
    )
    internal_tls_cert: Path | None = Field(
        default=None, description="This role's certificate chain, a PEM file: the roles talk by TLS."
    )
    internal_tls_key: Path | None = Field(default=None, description="Its key, a PEM file.")
    internal_tls_ca: Path | None = Field(
        default=None, description="PEM file of who signs the roles' certificates."
    )
    data_dir: Path = Field(default_factory=default_data_dir, description="Folder of everything durable.")
    account_id: str = Field(default="000000000000", pattern=r"^\d{12}$", description="Account id in ARNs.")
    region: str = Field(default="us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="Region in ARNs.")
    url_base: str | None = Field(
        default=None,
        pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$",
        description="Domain of function URLs, as https://lambda.example.com, which a wildcard in DNS and "
        "whoever ends TLS lead to the gateway (ID.lambda-url.REGION.lambda.example.com); unset: *.localhost.",
    )
    redis_url: str | None = Field(
        default=None,
        description="Your Redis or Valkey, as redis://HOST:PORT/0, or its sentinels, as "
        "redis+sentinel://HOST:PORT,HOST:PORT/MASTER/0; unset: one of our own in the data folder.",
    )
    redis_replicas: int = Field(
        default=0,
        ge=0,
        description="So many replicas must have an event before it is accepted, or a failover may lose it.",
    )
    broker_url: str | None = Field(
        default=None,
        description="RabbitMQ for asynchronous events, as amqp://USER:PASSWORD@HOST:PORT/VHOST, or memory:// "
        "to try (nothing survives); unset: that Redis.",
    )
    blobs: str | None = Field(
        default=None,
        description="Where code, layers and large event payloads lie: s3://BUCKET/PREFIX, on the S3 server of "
        "AWS_ENDPOINT_URL_S3 (else AWS), or a folder. Unset: `blobs` in the data folder. The roles of a "
        "cluster need one that all of them reach.",
    )
    s3: bool = Field(
        default=True,
        description="Start the bundled S3 server if it is installed and AWS_ENDPOINT_URL_S3 is unset.",
    )
    s3_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of the bundled S3 server; 0: the same one as last time, or a free one.",
    )
    isolation: Literal["auto", "strict", "none"] = Field(
        default="auto",
        description="strict: refuse to start where something can't be enforced; none: no isolation at all.",
    )
    runtime_match: Literal["exact", "compatible"] = Field(
        default="exact", description="compatible: the nearest one runs where a Python or Ruby is not there."
    )
    file_systems: Annotated[Mapping[str, Shared], NoDecode] = Field(
        default_factory=dict,
        description="Folders that functions may mount by FileSystemConfigs, as ACCESS_POINT=FOLDER[:ro], by "
        "commas: fsap-0123456789abcdef0=/srv/models:ro. The same for all roles; on every executor.",
    )
    image_registries: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Registries whose images functions may be (PackageType Image), as HOST or HOST:PORT, by "
        "commas. The same for all roles.",
    )
    image_layouts: Path | None = Field(
        default=None,
        description="A folder of OCI image layouts that functions may be, as oci-layout:/FOLDER:TAG. On every "
        "gateway and executor.",
    )
    reachable: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="URLs that functions may reach although they are on loopback."
    )
    keep_alive_seconds: float = Field(
        default=600.0, gt=0, description="An environment idle for so long is stopped."
    )
    parked_slots: int = Field(
        default=16,
        ge=0,
        le=1000,
        description="At most so many environments are made ahead of need, as starts come, 3 MB each (Node.js "
        "and Ruby: 14); 0: none, and no cold start is a fork.",
    )
    freeze_after_ms: float = Field(
        default=10.0, ge=0, description="An idle environment is frozen after so long."
    )
    memory_mb: int | None = Field(
        default=None, ge=128, description="Memory for environments in all; unset: 80 % of the machine's."
    )
    code_cache_mb: int = Field(
        default=4096, ge=256, description="Unpacked code that is kept although no environment uses it."
    )
    concurrent_executions: int = Field(default=1000, ge=1, description="The account's concurrency limit.")
    async_retry_base_seconds: float = Field(
        default=60.0,
        ge=0,
        description="Wait before the first retry of a failed event; the second waits twice as long (AWS: 60).",
    )
    queue_max_events: int = Field(
        default=1_000_000,
        ge=0,
        description="Events of one function that may wait; more are refused for now. 0: any number.",
    )
    queue_keep_dead: int = Field(
        default=1000,
        ge=0,
        description="Given-up events that no dead-letter queue or destination took, kept of each function.",
    )
    outcome_max_age_seconds: float = Field(
        default=86_400.0,
        gt=0,
        description="How long an outcome is sent to a target that does not take it.",
    )
    redis_memory_mb: int | None = Field(
        default=None,
        ge=64,
        description="Memory of our own Redis; beyond it events are refused. Unset: a quarter of the machine's.",
    )
    usage_spool_mb: int = Field(
        default=256,
        ge=8,
        description="Disk for usage records that the ledger has not taken yet; more are counted as missing.",
    )
    prices: Path | None = Field(
        default=None, description="Your price table for `lambent usage`; unset: AWS's of us-east-1."
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="URL of an OpenTelemetry collector (OTLP over HTTP), as http://127.0.0.1:4318; needs "
        "`lambent[otel]`. Unset: no traces.",
    )
    uid_base: int = Field(
        default=1_500_000,
        ge=1000,
        description="First outside uid of environments (as root). Servers side by side need one each.",
    )
    uid_count: int = Field(
        default=4096, ge=16, description="How many outside uids a server has: one per environment."
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, description="How long a stop waits for running invocations."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="The server's own log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The server's own log."
    )
    function_aws_access_key_id: str | None = Field(
        default=None, description="Key id that functions get, with the secret key; unset: placeholders."
    )
    function_aws_secret_access_key: SecretStr | None = Field(
        default=None, validate_default=True, description="Secret key that functions get."
    )
    function_aws_session_token: SecretStr | None = Field(
        default=None, description="Session token that functions get with these keys; unset: none."
    )
    shards: int = Field(
        default=16, ge=1, le=256, description="Slices of the key space; fixed at a store's first start."
    )

    @field_validator("file_systems", mode="before")
    @classmethod
    def _file_systems(cls, value: object) -> object:
        return shares.parse(value) if isinstance(value, str) else value

    @field_validator("reachable", "image_registries", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        # NoDecode: the variable is read here, for pydantic-settings itself takes JSON only.
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError('neither URLs with commas between them nor a JSON list, as ["URL"]') from None
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("reachable")
    @classmethod
    def _urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if (
                parts.scheme not in ("http", "https", "tcp", "redis", "rediss", "amqp", "amqps")
                or not parts.hostname
            ):
                raise ValueError(f"{url} is not a URL with a host, as http://127.0.0.1:8000")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://unset")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not a URL with a host, as http://127.0.0.1:4318")
        return value

    @field_validator("function_aws_secret_access_key")
    @classmethod
    def _both(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # Half of a pair would be passed over, and functions would get placeholders.
        if bool(value) != bool(info.data.get("function_aws_access_key_id")):
            raise ValueError(f"set both {_KEYS}, or neither")
        return value

    @field_validator("function_aws_session_token")
    @classmethod
    def _of_keys(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value and not info.data.get("function_aws_access_key_id"):
            raise ValueError(f"a token is of no use without its keys: set {_KEYS} too")
        return value

    @field_validator("grpc_tls_key")
    @classmethod
    def _pair(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("grpc_tls_cert") is None):
            raise ValueError("set both LAMBENT_GRPC_TLS_CERT and LAMBENT_GRPC_TLS_KEY, or neither")
        return value

    @field_validator("grpc_tls_client_ca")
    @classmethod
    def _of_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("grpc_tls_cert") is None:
            raise ValueError("clients are checked over TLS only: set LAMBENT_GRPC_TLS_CERT and _KEY too")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        return value if value is None else plain_redis_url(value)

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: str | None) -> str | None:
        return value if value is None else broker_url(value)

    @field_validator("blobs")
    @classmethod
    def _blobs(cls, value: str | None) -> str | None:
        return value if value is None else blobs_place(value)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given: Mapping[str, Any] = init_settings()
        named = _named_file()
        folder = given.get("data_dir") or os.environ.get("LAMBENT_DATA_DIR") or default_data_dir()
        if named is not None and not named.is_file():
            raise FileNotFoundError("there is no such file; LAMBENT_CONFIG names it")
        toml = TomlConfigSettingsSource(settings_cls, named or Path(folder).expanduser() / "lambent.toml")
        for name in toml.toml_data:
            if name not in settings_cls.model_fields:
                raise ValueError(_unknown(name, settings_cls.model_fields))
        return init_settings, env_settings, toml

    def config_file(self) -> Path:
        """Where the toml file is looked for."""
        return _named_file() or self.data_dir / "lambent.toml"


def _named_file() -> Path | None:
    named = os.environ.get("LAMBENT_CONFIG")
    return Path(named).expanduser() if named else None


def _unknown(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"there is no setting {name}" + (f" (did you mean {close[0]}?)" if close else "")


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with each `LAMBENT_*` variable that is no setting; a wrong one would be passed over."""
    known = [f"LAMBENT_{name.upper()}" for name in Settings.model_fields]
    return [
        _unknown(name, known)
        for name in sorted(environment)
        if name.upper().startswith("LAMBENT_")
        and not name.upper().startswith(_TEST_VARIABLES)
        and name.upper() not in (*known, *_OTHER_VARIABLES)
    ]


def broker_url(url: str) -> str:
    """amqp://, amqps:// or memory://, as it is. Raises ValueError for anything else, without the URL."""
    wrong = ValueError("no URL of a broker, as amqp://USER:PASSWORD@HOST:PORT/VHOST, amqps://... or memory://")
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none; its message may hold the password
        raise wrong from None
    if url == "memory://" or (parts.scheme in ("amqp", "amqps") and whole):
        return url
    raise wrong


def blobs_place(value: str) -> str:
    """s3://BUCKET or s3://BUCKET/PREFIX, or a folder's absolute path. Raises ValueError for anything else."""
    if "://" not in value:
        return str(Path(value).expanduser().absolute())
    value = value.rstrip("/")
    if _S3_URL.fullmatch(value) is None or any(part in (".", "..") for part in value.split("/")):
        raise ValueError("neither a folder nor the URL of a bucket, as s3://BUCKET/PREFIX")
    return value


def endpoint_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """The AWS_ENDPOINT_URL* variables of the server's own environment: {variable: URL}."""
    return {
        name: value
        for name, value in environment.items()
        if (name == "AWS_ENDPOINT_URL" or name.startswith("AWS_ENDPOINT_URL_")) and value
    }
