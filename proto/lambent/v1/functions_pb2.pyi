import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Architecture(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARCHITECTURE_UNSPECIFIED: _ClassVar[Architecture]
    ARCHITECTURE_X86_64: _ClassVar[Architecture]
    ARCHITECTURE_ARM64: _ClassVar[Architecture]

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_PENDING: _ClassVar[State]
    STATE_ACTIVE: _ClassVar[State]
    STATE_INACTIVE: _ClassVar[State]
    STATE_FAILED: _ClassVar[State]

class LastUpdateStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAST_UPDATE_STATUS_UNSPECIFIED: _ClassVar[LastUpdateStatus]
    LAST_UPDATE_STATUS_IN_PROGRESS: _ClassVar[LastUpdateStatus]
    LAST_UPDATE_STATUS_SUCCESSFUL: _ClassVar[LastUpdateStatus]
    LAST_UPDATE_STATUS_FAILED: _ClassVar[LastUpdateStatus]
ARCHITECTURE_UNSPECIFIED: Architecture
ARCHITECTURE_X86_64: Architecture
ARCHITECTURE_ARM64: Architecture
STATE_UNSPECIFIED: State
STATE_PENDING: State
STATE_ACTIVE: State
STATE_INACTIVE: State
STATE_FAILED: State
LAST_UPDATE_STATUS_UNSPECIFIED: LastUpdateStatus
LAST_UPDATE_STATUS_IN_PROGRESS: LastUpdateStatus
LAST_UPDATE_STATUS_SUCCESSFUL: LastUpdateStatus
LAST_UPDATE_STATUS_FAILED: LastUpdateStatus

class FunctionCode(_message.Message):
    __slots__ = ("zip_file", "s3_bucket", "s3_key", "s3_object_version")
    ZIP_FILE_FIELD_NUMBER: _ClassVar[int]
    S3_BUCKET_FIELD_NUMBER: _ClassVar[int]
    S3_KEY_FIELD_NUMBER: _ClassVar[int]
    S3_OBJECT_VERSION_FIELD_NUMBER: _ClassVar[int]
    zip_file: bytes
    s3_bucket: str
    s3_key: str
    s3_object_version: str
    def __init__(self, zip_file: _Optional[bytes] = ..., s3_bucket: _Optional[str] = ..., s3_key: _Optional[str] = ..., s3_object_version: _Optional[str] = ...) -> None: ...

class Environment(_message.Message):
    __slots__ = ("variables",)
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    variables: _containers.ScalarMap[str, str]
    def __init__(self, variables: _Optional[_Mapping[str, str]] = ...) -> None: ...

class DeadLetterConfig(_message.Message):
    __slots__ = ("target_arn",)
    TARGET_ARN_FIELD_NUMBER: _ClassVar[int]
    target_arn: str
    def __init__(self, target_arn: _Optional[str] = ...) -> None: ...

class EphemeralStorage(_message.Message):
    __slots__ = ("size",)
    SIZE_FIELD_NUMBER: _ClassVar[int]
    size: int
    def __init__(self, size: _Optional[int] = ...) -> None: ...

class LoggingConfig(_message.Message):
    __slots__ = ("log_format", "log_group")
    LOG_FORMAT_FIELD_NUMBER: _ClassVar[int]
    LOG_GROUP_FIELD_NUMBER: _ClassVar[int]
    log_format: str
    log_group: str
    def __init__(self, log_format: _Optional[str] = ..., log_group: _Optional[str] = ...) -> None: ...

class LayerList(_message.Message):
    __slots__ = ("arns",)
    ARNS_FIELD_NUMBER: _ClassVar[int]
    arns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, arns: _Optional[_Iterable[str]] = ...) -> None: ...

class LayerUse(_message.Message):
    __slots__ = ("arn", "code_size")
    ARN_FIELD_NUMBER: _ClassVar[int]
    CODE_SIZE_FIELD_NUMBER: _ClassVar[int]
    arn: str
    code_size: int
    def __init__(self, arn: _Optional[str] = ..., code_size: _Optional[int] = ...) -> None: ...

class FunctionConfiguration(_message.Message):
    __slots__ = ("function_name", "function_arn", "runtime", "role", "handler", "code_size", "description", "timeout", "memory_size", "last_modified", "code_sha256", "version", "environment", "dead_letter_config", "revision_id", "layers", "state", "state_reason", "state_reason_code", "last_update_status", "last_update_status_reason", "last_update_status_reason_code", "architectures", "ephemeral_storage", "logging_config")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_ARN_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    CODE_SIZE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SIZE_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    CODE_SHA256_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_CODE_FIELD_NUMBER: _ClassVar[int]
    LAST_UPDATE_STATUS_FIELD_NUMBER: _ClassVar[int]
    LAST_UPDATE_STATUS_REASON_FIELD_NUMBER: _ClassVar[int]
    LAST_UPDATE_STATUS_REASON_CODE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURES_FIELD_NUMBER: _ClassVar[int]
    EPHEMERAL_STORAGE_FIELD_NUMBER: _ClassVar[int]
    LOGGING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    function_arn: str
    runtime: str
    role: str
    handler: str
    code_size: int
    description: str
    timeout: int
    memory_size: int
    last_modified: _timestamp_pb2.Timestamp
    code_sha256: str
    version: str
    environment: Environment
    dead_letter_config: DeadLetterConfig
    revision_id: str
    layers: _containers.RepeatedCompositeFieldContainer[LayerUse]
    state: State
    state_reason: str
    state_reason_code: str
    last_update_status: LastUpdateStatus
    last_update_status_reason: str
    last_update_status_reason_code: str
    architectures: _containers.RepeatedScalarFieldContainer[Architecture]
    ephemeral_storage: EphemeralStorage
    logging_config: LoggingConfig
    def __init__(self, function_name: _Optional[str] = ..., function_arn: _Optional[str] = ..., runtime: _Optional[str] = ..., role: _Optional[str] = ..., handler: _Optional[str] = ..., code_size: _Optional[int] = ..., description: _Optional[str] = ..., timeout: _Optional[int] = ..., memory_size: _Optional[int] = ..., last_modified: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., code_sha256: _Optional[str] = ..., version: _Optional[str] = ..., environment: _Optional[_Union[Environment, _Mapping]] = ..., dead_letter_config: _Optional[_Union[DeadLetterConfig, _Mapping]] = ..., revision_id: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[LayerUse, _Mapping]]] = ..., state: _Optional[_Union[State, str]] = ..., state_reason: _Optional[str] = ..., state_reason_code: _Optional[str] = ..., last_update_status: _Optional[_Union[LastUpdateStatus, str]] = ..., last_update_status_reason: _Optional[str] = ..., last_update_status_reason_code: _Optional[str] = ..., architectures: _Optional[_Iterable[_Union[Architecture, str]]] = ..., ephemeral_storage: _Optional[_Union[EphemeralStorage, _Mapping]] = ..., logging_config: _Optional[_Union[LoggingConfig, _Mapping]] = ...) -> None: ...

class CreateFunctionRequest(_message.Message):
    __slots__ = ("function_name", "runtime", "role", "handler", "code", "description", "timeout", "memory_size", "environment", "dead_letter_config", "layers", "architectures", "ephemeral_storage", "logging_config", "tags")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SIZE_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURES_FIELD_NUMBER: _ClassVar[int]
    EPHEMERAL_STORAGE_FIELD_NUMBER: _ClassVar[int]
    LOGGING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    runtime: str
    role: str
    handler: str
    code: FunctionCode
    description: str
    timeout: int
    memory_size: int
    environment: Environment
    dead_letter_config: DeadLetterConfig
    layers: LayerList
    architectures: _containers.RepeatedScalarFieldContainer[Architecture]
    ephemeral_storage: EphemeralStorage
    logging_config: LoggingConfig
    tags: _containers.ScalarMap[str, str]
    def __init__(self, function_name: _Optional[str] = ..., runtime: _Optional[str] = ..., role: _Optional[str] = ..., handler: _Optional[str] = ..., code: _Optional[_Union[FunctionCode, _Mapping]] = ..., description: _Optional[str] = ..., timeout: _Optional[int] = ..., memory_size: _Optional[int] = ..., environment: _Optional[_Union[Environment, _Mapping]] = ..., dead_letter_config: _Optional[_Union[DeadLetterConfig, _Mapping]] = ..., layers: _Optional[_Union[LayerList, _Mapping]] = ..., architectures: _Optional[_Iterable[_Union[Architecture, str]]] = ..., ephemeral_storage: _Optional[_Union[EphemeralStorage, _Mapping]] = ..., logging_config: _Optional[_Union[LoggingConfig, _Mapping]] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CreateFunctionResponse(_message.Message):
    __slots__ = ("configuration",)
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    configuration: FunctionConfiguration
    def __init__(self, configuration: _Optional[_Union[FunctionConfiguration, _Mapping]] = ...) -> None: ...

class UpdateFunctionCodeRequest(_message.Message):
    __slots__ = ("function_name", "code", "revision_id", "dry_run", "architectures")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURES_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    code: FunctionCode
    revision_id: str
    dry_run: bool
    architectures: _containers.RepeatedScalarFieldContainer[Architecture]
    def __init__(self, function_name: _Optional[str] = ..., code: _Optional[_Union[FunctionCode, _Mapping]] = ..., revision_id: _Optional[str] = ..., dry_run: _Optional[bool] = ..., architectures: _Optional[_Iterable[_Union[Architecture, str]]] = ...) -> None: ...

class UpdateFunctionCodeResponse(_message.Message):
    __slots__ = ("configuration",)
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    configuration: FunctionConfiguration
    def __init__(self, configuration: _Optional[_Union[FunctionConfiguration, _Mapping]] = ...) -> None: ...

class UpdateFunctionConfigurationRequest(_message.Message):
    __slots__ = ("function_name", "runtime", "role", "handler", "description", "timeout", "memory_size", "environment", "dead_letter_config", "layers", "ephemeral_storage", "logging_config", "revision_id")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SIZE_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    EPHEMERAL_STORAGE_FIELD_NUMBER: _ClassVar[int]
    LOGGING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    runtime: str
    role: str
    handler: str
    description: str
    timeout: int
    memory_size: int
    environment: Environment
    dead_letter_config: DeadLetterConfig
    layers: LayerList
    ephemeral_storage: EphemeralStorage
    logging_config: LoggingConfig
    revision_id: str
    def __init__(self, function_name: _Optional[str] = ..., runtime: _Optional[str] = ..., role: _Optional[str] = ..., handler: _Optional[str] = ..., description: _Optional[str] = ..., timeout: _Optional[int] = ..., memory_size: _Optional[int] = ..., environment: _Optional[_Union[Environment, _Mapping]] = ..., dead_letter_config: _Optional[_Union[DeadLetterConfig, _Mapping]] = ..., layers: _Optional[_Union[LayerList, _Mapping]] = ..., ephemeral_storage: _Optional[_Union[EphemeralStorage, _Mapping]] = ..., logging_config: _Optional[_Union[LoggingConfig, _Mapping]] = ..., revision_id: _Optional[str] = ...) -> None: ...

class UpdateFunctionConfigurationResponse(_message.Message):
    __slots__ = ("configuration",)
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    configuration: FunctionConfiguration
    def __init__(self, configuration: _Optional[_Union[FunctionConfiguration, _Mapping]] = ...) -> None: ...

class GetFunctionRequest(_message.Message):
    __slots__ = ("function_name", "qualifier")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    QUALIFIER_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    qualifier: str
    def __init__(self, function_name: _Optional[str] = ..., qualifier: _Optional[str] = ...) -> None: ...

class FunctionCodeLocation(_message.Message):
    __slots__ = ("repository_type", "location")
    REPOSITORY_TYPE_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    repository_type: str
    location: str
    def __init__(self, repository_type: _Optional[str] = ..., location: _Optional[str] = ...) -> None: ...

class Concurrency(_message.Message):
    __slots__ = ("reserved_concurrent_executions",)
    RESERVED_CONCURRENT_EXECUTIONS_FIELD_NUMBER: _ClassVar[int]
    reserved_concurrent_executions: int
    def __init__(self, reserved_concurrent_executions: _Optional[int] = ...) -> None: ...

class GetFunctionResponse(_message.Message):
    __slots__ = ("configuration", "code", "tags", "concurrency")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    configuration: FunctionConfiguration
    code: FunctionCodeLocation
    tags: _containers.ScalarMap[str, str]
    concurrency: Concurrency
    def __init__(self, configuration: _Optional[_Union[FunctionConfiguration, _Mapping]] = ..., code: _Optional[_Union[FunctionCodeLocation, _Mapping]] = ..., tags: _Optional[_Mapping[str, str]] = ..., concurrency: _Optional[_Union[Concurrency, _Mapping]] = ...) -> None: ...

class ListFunctionsRequest(_message.Message):
    __slots__ = ("marker", "max_items")
    MARKER_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    marker: str
    max_items: int
    def __init__(self, marker: _Optional[str] = ..., max_items: _Optional[int] = ...) -> None: ...

class ListFunctionsResponse(_message.Message):
    __slots__ = ("functions", "next_marker")
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_MARKER_FIELD_NUMBER: _ClassVar[int]
    functions: _containers.RepeatedCompositeFieldContainer[FunctionConfiguration]
    next_marker: str
    def __init__(self, functions: _Optional[_Iterable[_Union[FunctionConfiguration, _Mapping]]] = ..., next_marker: _Optional[str] = ...) -> None: ...

class DeleteFunctionRequest(_message.Message):
    __slots__ = ("function_name", "qualifier")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    QUALIFIER_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    qualifier: str
    def __init__(self, function_name: _Optional[str] = ..., qualifier: _Optional[str] = ...) -> None: ...

class DeleteFunctionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PublishVersionRequest(_message.Message):
    __slots__ = ("function_name", "code_sha256", "description", "revision_id")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    CODE_SHA256_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    code_sha256: str
    description: str
    revision_id: str
    def __init__(self, function_name: _Optional[str] = ..., code_sha256: _Optional[str] = ..., description: _Optional[str] = ..., revision_id: _Optional[str] = ...) -> None: ...

class PublishVersionResponse(_message.Message):
    __slots__ = ("configuration",)
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    configuration: FunctionConfiguration
    def __init__(self, configuration: _Optional[_Union[FunctionConfiguration, _Mapping]] = ...) -> None: ...

class ListVersionsByFunctionRequest(_message.Message):
    __slots__ = ("function_name", "marker", "max_items")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    MARKER_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    marker: str
    max_items: int
    def __init__(self, function_name: _Optional[str] = ..., marker: _Optional[str] = ..., max_items: _Optional[int] = ...) -> None: ...

class ListVersionsByFunctionResponse(_message.Message):
    __slots__ = ("versions", "next_marker")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_MARKER_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[FunctionConfiguration]
    next_marker: str
    def __init__(self, versions: _Optional[_Iterable[_Union[FunctionConfiguration, _Mapping]]] = ..., next_marker: _Optional[str] = ...) -> None: ...

class AliasRoutingConfig(_message.Message):
    __slots__ = ("additional_version_weights",)
    class AdditionalVersionWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ADDITIONAL_VERSION_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    additional_version_weights: _containers.ScalarMap[str, float]
    def __init__(self, additional_version_weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class AliasConfiguration(_message.Message):
    __slots__ = ("alias_arn", "name", "function_version", "description", "routing_config", "revision_id")
    ALIAS_ARN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ROUTING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    alias_arn: str
    name: str
    function_version: str
    description: str
    routing_config: AliasRoutingConfig
    revision_id: str
    def __init__(self, alias_arn: _Optional[str] = ..., name: _Optional[str] = ..., function_version: _Optional[str] = ..., description: _Optional[str] = ..., routing_config: _Optional[_Union[AliasRoutingConfig, _Mapping]] = ..., revision_id: _Optional[str] = ...) -> None: ...

class CreateAliasRequest(_message.Message):
    __slots__ = ("function_name", "name", "function_version", "description", "routing_config")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ROUTING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    name: str
    function_version: str
    description: str
    routing_config: AliasRoutingConfig
    def __init__(self, function_name: _Optional[str] = ..., name: _Optional[str] = ..., function_version: _Optional[str] = ..., description: _Optional[str] = ..., routing_config: _Optional[_Union[AliasRoutingConfig, _Mapping]] = ...) -> None: ...

class CreateAliasResponse(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: AliasConfiguration
    def __init__(self, alias: _Optional[_Union[AliasConfiguration, _Mapping]] = ...) -> None: ...

class GetAliasRequest(_message.Message):
    __slots__ = ("function_name", "name")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    name: str
    def __init__(self, function_name: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetAliasResponse(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: AliasConfiguration
    def __init__(self, alias: _Optional[_Union[AliasConfiguration, _Mapping]] = ...) -> None: ...

class UpdateAliasRequest(_message.Message):
    __slots__ = ("function_name", "name", "function_version", "description", "routing_config", "revision_id")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ROUTING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    name: str
    function_version: str
    description: str
    routing_config: AliasRoutingConfig
    revision_id: str
    def __init__(self, function_name: _Optional[str] = ..., name: _Optional[str] = ..., function_version: _Optional[str] = ..., description: _Optional[str] = ..., routing_config: _Optional[_Union[AliasRoutingConfig, _Mapping]] = ..., revision_id: _Optional[str] = ...) -> None: ...

class UpdateAliasResponse(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: AliasConfiguration
    def __init__(self, alias: _Optional[_Union[AliasConfiguration, _Mapping]] = ...) -> None: ...

class ListAliasesRequest(_message.Message):
    __slots__ = ("function_name", "function_version", "marker", "max_items")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_VERSION_FIELD_NUMBER: _ClassVar[int]
    MARKER_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    function_version: str
    marker: str
    max_items: int
    def __init__(self, function_name: _Optional[str] = ..., function_version: _Optional[str] = ..., marker: _Optional[str] = ..., max_items: _Optional[int] = ...) -> None: ...

class ListAliasesResponse(_message.Message):
    __slots__ = ("aliases", "next_marker")
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_MARKER_FIELD_NUMBER: _ClassVar[int]
    aliases: _containers.RepeatedCompositeFieldContainer[AliasConfiguration]
    next_marker: str
    def __init__(self, aliases: _Optional[_Iterable[_Union[AliasConfiguration, _Mapping]]] = ..., next_marker: _Optional[str] = ...) -> None: ...

class DeleteAliasRequest(_message.Message):
    __slots__ = ("function_name", "name")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    name: str
    def __init__(self, function_name: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteAliasResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
