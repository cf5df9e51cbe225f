"""The field table: what each input field of each operation that is built does here. Data; a test holds it
against AWS's model, so that a new field of the model can't slip in without a word.

Served at /_lambent/parity, rendered as docs/parity.md (`python -m lambent.gateway.parity > docs/parity.md`).
"""

from collections.abc import Mapping

from lambent.gateway.field_rules import HOST, Emulated, Enforced, Fields, Recorded, Refused


def _enforced(name: str) -> Enforced:
    return Enforced(f"tests/e2e/test_fields_enforced.py::test_{name}")


def _image(name: str) -> Enforced:
    return Enforced(f"tests/e2e/test_image_functions.py::test_{name}")


def _streamed(name: str) -> Enforced:
    return Enforced(f"tests/e2e/test_streaming.py::test_{name}")


def _logged(name: str) -> Enforced:
    return Enforced(f"tests/e2e/test_log_formats.py::test_{name}")


def _handled(name: str) -> Enforced:
    """Where the gateway is all that has to do with it."""
    return Enforced(f"tests/unit/gateway/test_handlers_functions.py::test_{name}")


def _delivered(name: str) -> Enforced:
    return Enforced(f"tests/e2e/test_outcomes.py::test_{name}")


def _versioned(name: str) -> Enforced:
    return Enforced(f"tests/unit/gateway/test_handlers_versions.py::test_{name}")


def _aliased(name: str) -> Enforced:
    return Enforced(f"tests/unit/gateway/test_handlers_aliases.py::test_{name}")


def _from_s3(name: str) -> Enforced:
    return Enforced(f"tests/e2e/test_code_from_s3.py::test_code_is_{name}")


_FUNCTION_NAME = _handled("a_function_may_be_named_in_every_form")
_QUALIFIER = _enforced("qualifier")
_REVISION_ID = _enforced("revision_id")
_PUBLISH_TO = Refused("managed instances are not built, so there is no $LATEST.PUBLISHED. Leave it out.")
_STORAGE_MODE = Refused(
    "a package is always copied out of the bucket at deploy time. Leave it out, or send COPY.", unless=("COPY",)
)
_KMS = Refused(
    "there is no KMS here, and nothing would be encrypted with this key. Leave it out.", unless=("",)
)
_ARCHITECTURES = Refused(
    "code runs natively on this machine and only for its own architecture ({host}). "
    "Leave it out, or send [{host}].",
    unless=(HOST,),
)
_DURABLE = Refused("durable functions are not built. Leave it out; the function then runs as an ordinary one.")
_TENANT = Refused("tenant isolation is not built, and tenants would share environments. Leave it out.")
_TAG_RESOURCE = _enforced("tag_resource")
_MARKER = _handled("a_list_pages_by_name_and_leaves_states_out")
_LAYER_MARKER = _enforced("marker_and_max_items_of_layers")

_FILE_SYSTEM = Enforced("tests/e2e/test_file_systems.py::test_functions_share_a_folder")
_CODE: Fields = {
    "ZipFile": _enforced("zip_file"),
    "S3Bucket": _from_s3("an_object"),
    "S3Key": _from_s3("an_object"),
    "S3ObjectVersion": _from_s3("a_version_of_an_object"),
    "S3ObjectStorageMode": _STORAGE_MODE,
}
_FUNCTION_CODE: Fields = {**_CODE, "ImageUri": _image("a_function_is_an_image"), "SourceKMSKeyArn": _KMS}

_CONFIGURATION: Fields = {
    "FunctionName": _FUNCTION_NAME,
    "Runtime": _enforced("runtime"),
    "Role": Recorded(
        "IAM is not built: the ARN's form is checked, no role is assumed, and functions get the keys of "
        "LAMBENT_FUNCTION_AWS_*, else placeholders."
    ),
    "Handler": _enforced("handler"),
    "Description": Recorded("AWS does no more than to give it back."),
    "Timeout": _enforced("timeout"),
    "MemorySize": _enforced("memory_size"),
    "VpcConfig.SubnetIds": Refused(
        "VPCs are not built; a function reaches what the host may reach. Leave VpcConfig out.", unless=([],)
    ),
    "VpcConfig.SecurityGroupIds": Refused(
        "VPCs are not built, and no security group would be applied. Leave VpcConfig out.", unless=([],)
    ),
    "VpcConfig.Ipv6AllowedForDualStack": Refused("VPCs are not built. Leave VpcConfig out.", unless=(False,)),
    "DeadLetterConfig.TargetArn": _delivered("a_failed_event_goes_to_the_dead_letter_queue"),
    "Environment.Variables": _enforced("environment_variables"),
    "KMSKeyArn": _KMS,
    "TracingConfig.Mode": Emulated(
        "Active samples one request a second and 5 % of the rest, as on AWS: the function sees Sampled=1, the "
        "log names the trace, and spans go to the collector of LAMBENT_OTLP_ENDPOINT, if that is set. There is "
        "no X-Ray service and no daemon."
    ),
    "Layers": _enforced("layers"),
    "FileSystemConfigs.Arn": _FILE_SYSTEM,
    "FileSystemConfigs.LocalMountPath": _FILE_SYSTEM,
    "FileSystemConfigs.S3FilesConfig": Refused(
        "an access point stands for a folder here, and nothing of it would act. Leave it out.", unless=({},)
    ),
    "ImageConfig.EntryPoint": _image("its_configuration_replaces_the_images"),
    "ImageConfig.Command": _image("its_configuration_replaces_the_images"),
    "ImageConfig.WorkingDirectory": _image("its_configuration_replaces_the_images"),
    "EphemeralStorage.Size": _enforced("ephemeral_storage"),
    "SnapStart.ApplyOn": Enforced(
        "tests/e2e/test_snap_start.py::test_a_versions_environments_are_restored_from_one_init"
    ),
    "LoggingConfig.LogFormat": _logged("the_platform_and_the_function_log_json"),
    "LoggingConfig.ApplicationLogLevel": _logged("records_below_the_applications_level_are_left_out"),
    "LoggingConfig.SystemLogLevel": _logged("events_below_the_systems_level_are_left_out"),
    "LoggingConfig.LogGroup": Emulated(
        "The function's log lines go to the log group of this name in Lambent's own log store; read them with "
        "`lambent logs`. Nothing is sent to CloudWatch."
    ),
    "CapacityProviderConfig": Refused("capacity providers (managed instances) are not built. Leave it out."),
    "DurableConfig": _DURABLE,
    "RuntimeConfig": Refused(
        "custom runtimes by ARN are not built. Leave it out, and name the runtime in Runtime.", unless=({},)
    ),
    "AcceleratorConfig": Refused("accelerators are not built. Leave it out.", unless=({},)),
}

_LISTED_LAYERS: Fields = {
    "CompatibleArchitecture": _enforced("layer_lists_filter"),
    "CompatibleRuntime": _enforced("layer_lists_filter"),
    "Marker": _LAYER_MARKER,
    "MaxItems": _LAYER_MARKER,
}
_LAYER_VERSION: Fields = {
    "LayerName": _enforced("layer_name_in_every_form"),
    "VersionNumber": _enforced("layer_version_number"),
}
_WHOLE_FUNCTION: Fields = {"FunctionName": _FUNCTION_NAME}
_ONE_FUNCTION: Fields = {"FunctionName": _FUNCTION_NAME, "Qualifier": _QUALIFIER}


_EVENT_INVOKE: Fields = {
    **_ONE_FUNCTION,
    "MaximumRetryAttempts": _delivered("retries_are_as_many_as_configured"),
    "MaximumEventAgeInSeconds": _delivered("an_event_that_is_too_old_is_given_up"),
    "DestinationConfig.OnSuccess.Destination": _delivered("outcomes_go_to_their_destinations"),
    "DestinationConfig.OnFailure.Destination": _delivered("outcomes_go_to_their_destinations"),
}
_VERSIONS_PAGED = _versioned("versions_are_listed_in_pages_with_latest_first")
_ONE_ALIAS: Fields = {"FunctionName": _FUNCTION_NAME, "Name": _aliased("an_alias_is_created_read_and_deleted")}
_ALIAS: Fields = {
    "FunctionVersion": Enforced("tests/e2e/test_versions.py::test_an_alias_moves_from_one_version_to_the_next"),
    "Description": Recorded("AWS does no more than to give it back."),
    "RoutingConfig.AdditionalVersionWeights": Enforced(
        "tests/e2e/test_versions.py::test_a_weighted_alias_runs_both_versions"
    ),
}
_PAGED = Enforced("tests/unit/gateway/test_handlers_event_invoke.py::test_a_list_pages_by_qualifier")


def _allocated(test: str) -> Enforced:
    return Enforced(f"tests/unit/gateway/test_handlers_provisioned.py::test_{test}")


def _url(name: str) -> Enforced:
    return Enforced(f"tests/e2e/test_function_urls.py::test_{name}")


_ONE_URL: Fields = {"FunctionName": _FUNCTION_NAME, "Qualifier": _url("an_alias_has_a_url_of_its_own")}
_URLS_PAGED = Enforced("tests/unit/gateway/test_handlers_urls.py::test_a_list_pages_by_alias")
_URL: Fields = {
    **_ONE_URL,
    "AuthType": Refused(
        "IAM is not built, and no signature would be checked. Send NONE, and shut the port to who may not "
        "call it.",
        unless=("NONE",),
    ),
    "InvokeMode": _url("a_response_is_streamed"),
    "Cors.AllowCredentials": _url("cors_is_answered_by_its_configuration"),
    "Cors.AllowHeaders": _url("cors_is_answered_by_its_configuration"),
    "Cors.AllowMethods": _url("cors_is_answered_by_its_configuration"),
    "Cors.AllowOrigins": _url("cors_is_answered_by_its_configuration"),
    "Cors.ExposeHeaders": _url("cors_is_answered_by_its_configuration"),
    "Cors.MaxAge": _url("cors_is_answered_by_its_configuration"),
}


def _under(prefix: str, fields: Fields) -> Fields:
    return {f"{prefix}.{path}": rule for path, rule in fields.items()}


TABLE: Mapping[str, Fields] = {
    "CreateFunction": {
        **_CONFIGURATION,
        **_under("Code", _FUNCTION_CODE),
        "Publish": _versioned("a_function_may_be_created_with_its_first_version"),
        "PublishTo": _PUBLISH_TO,
        "PackageType": _image("a_function_is_an_image"),
        "Tags": _handled("get_function_has_tags_and_reserved_concurrency_when_set"),
        "CodeSigningConfigArn": Refused(
            "code signing is not built, and no signature would be checked. Leave it out."
        ),
        "Architectures": _ARCHITECTURES,
        "TenancyConfig": Refused("tenant isolation is not built. Leave it out, or make a function per tenant."),
    },
    "GetFunction": _ONE_FUNCTION,
    "GetFunctionConfiguration": _ONE_FUNCTION,
    "UpdateFunctionCode": {
        **_FUNCTION_CODE,
        "ImageUri": _image("a_tag_that_moves_changes_nothing_until_the_code_is_updated"),
        "FunctionName": _FUNCTION_NAME,
        "Architectures": _ARCHITECTURES,
        "Publish": _versioned("an_update_of_the_code_may_publish_it"),
        "PublishTo": _PUBLISH_TO,
        "DryRun": _enforced("update_code_dry_run"),
        "RevisionId": _REVISION_ID,
    },
    "UpdateFunctionConfiguration": {**_CONFIGURATION, "RevisionId": _REVISION_ID},
    "DeleteFunction": _ONE_FUNCTION,
    "ListFunctions": {
        "MasterRegion": Refused(
            "Lambda@Edge is not built, so no function is a replica of one in another region. Leave it out.",
            unless=("ALL",),
        ),
        "FunctionVersion": _versioned("all_versions_of_all_functions_are_listed_in_pages"),
        "Marker": _MARKER,
        "MaxItems": _MARKER,
    },
    "PublishVersion": {
        **_WHOLE_FUNCTION,
        "CodeSha256": _versioned("code_that_is_not_the_expected_one_is_not_published"),
        "Description": _versioned("a_version_is_described_by_the_request_or_the_function"),
        "RevisionId": _versioned("another_revision_is_not_published"),
        "PublishTo": _PUBLISH_TO,
    },
    "ListVersionsByFunction": {**_WHOLE_FUNCTION, "Marker": _VERSIONS_PAGED, "MaxItems": _VERSIONS_PAGED},
    "CreateAlias": {**_ONE_ALIAS, **_ALIAS},
    "GetAlias": _ONE_ALIAS,
    "ListAliases": {
        **_WHOLE_FUNCTION,
        "FunctionVersion": _aliased("a_list_may_be_of_the_aliases_of_one_version"),
        "Marker": _aliased("a_list_pages_by_name"),
        "MaxItems": _aliased("a_list_pages_by_name"),
    },
    "UpdateAlias": {
        **_ONE_ALIAS,
        **_ALIAS,
        "RevisionId": _aliased("an_update_may_ask_for_the_revision_that_it_is_made_on"),
    },
    "DeleteAlias": _ONE_ALIAS,
    "PutFunctionConcurrency": {
        **_WHOLE_FUNCTION,
        "ReservedConcurrentExecutions": _enforced("reserved_concurrent_executions"),
    },
    "GetFunctionConcurrency": _WHOLE_FUNCTION,
    "DeleteFunctionConcurrency": _WHOLE_FUNCTION,
    "PutProvisionedConcurrencyConfig": {
        **_ONE_FUNCTION,
        "ProvisionedConcurrentExecutions": Enforced(
            "tests/e2e/test_provisioned.py::test_environments_are_there_before_they_are_asked_for"
        ),
    },
    "GetProvisionedConcurrencyConfig": _ONE_FUNCTION,
    "ListProvisionedConcurrencyConfigs": {
        **_WHOLE_FUNCTION,
        "Marker": _allocated("a_list_pages_by_qualifier"),
        "MaxItems": _allocated("a_list_pages_by_qualifier"),
    },
    "DeleteProvisionedConcurrencyConfig": _ONE_FUNCTION,
    "PutFunctionRecursionConfig": {**_WHOLE_FUNCTION, "RecursiveLoop": _enforced("recursive_loop")},
    "GetFunctionRecursionConfig": _WHOLE_FUNCTION,
    "PutFunctionEventInvokeConfig": _EVENT_INVOKE,
    "UpdateFunctionEventInvokeConfig": _EVENT_INVOKE,
    "GetFunctionEventInvokeConfig": _ONE_FUNCTION,
    "ListFunctionEventInvokeConfigs": {**_WHOLE_FUNCTION, "Marker": _PAGED, "MaxItems": _PAGED},
    "DeleteFunctionEventInvokeConfig": _ONE_FUNCTION,
    "CreateFunctionUrlConfig": _URL,
    "UpdateFunctionUrlConfig": _URL,
    "GetFunctionUrlConfig": _ONE_URL,
    "DeleteFunctionUrlConfig": _ONE_URL,
    "ListFunctionUrlConfigs": {"FunctionName": _FUNCTION_NAME, "Marker": _URLS_PAGED, "MaxItems": _URLS_PAGED},
    "PublishLayerVersion": {
        **_under("Content", _CODE),
        "LayerName": _enforced("layer_name_in_every_form"),
        "Description": Recorded("AWS does no more than to give it back."),
        "CompatibleArchitectures": _enforced("layer_lists_filter"),
        "CompatibleRuntimes": _enforced("layer_lists_filter"),
        "LicenseInfo": Recorded("AWS does no more than to give it back."),
    },
    "GetLayerVersion": _LAYER_VERSION,
    "ListLayers": _LISTED_LAYERS,
    "ListLayerVersions": {**_LISTED_LAYERS, "LayerName": _enforced("layer_name_in_every_form")},
    "DeleteLayerVersion": _LAYER_VERSION,
    "GetLayerVersionByArn": {"Arn": _enforced("layer_version_by_arn")},
    "TagResource": {"Resource": _TAG_RESOURCE, "Tags": _TAG_RESOURCE},
    "UntagResource": {"Resource": _TAG_RESOURCE, "TagKeys": _TAG_RESOURCE},
    "ListTags": {"Resource": _TAG_RESOURCE},
    "GetAccountSettings": {},
    "InvokeWithResponseStream": {
        "FunctionName": _FUNCTION_NAME,
        "InvocationType": _streamed("a_dry_run_checks_and_runs_nothing"),
        "LogType": _streamed("the_end_has_the_tail_of_the_log"),
        "ClientContext": _streamed("the_client_context_is_the_functions"),
        "Payload": _streamed("chunks_come_while_the_function_runs"),
        "Qualifier": _streamed("a_qualifier_chooses_the_version"),
        "TenantId": _TENANT,
    },
    "Invoke": {
        "FunctionName": _FUNCTION_NAME,
        "InvocationType": _enforced("invocation_type"),
        "LogType": _enforced("log_type_tail"),
        "ClientContext": _enforced("client_context"),
        "DurableExecutionName": _DURABLE,
        "Payload": _enforced("payload"),
        "Qualifier": _QUALIFIER,
        "TenantId": _TENANT,
    },
}
"""Operation -> field -> rule; every operation that is built is a row here."""
