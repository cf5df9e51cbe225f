"""THE table: every operation of AWS's model that Lambent answers, and its handler; the map of the product.

What is in the model and not here is answered with 501 by the protocol layer. Invoke and
InvokeWithResponseStream are not here: they are bytes in, bytes out, on a path of their own (`gateway.invoke`).
"""

from collections.abc import Mapping
from types import MappingProxyType

from lambent.gateway.handlers import (
    account,
    aliases,
    concurrency,
    event_invoke,
    function_code,
    function_configuration,
    functions,
    layers,
    provisioned,
    tags,
    urls,
    versions,
)
from lambent.gateway.services import Handler

OPERATIONS: Mapping[str, Handler] = MappingProxyType(
    {
        "CreateFunction": functions.create_function,
        "GetFunction": functions.get_function,
        "ListFunctions": functions.list_functions,
        "DeleteFunction": functions.delete_function,
        "GetFunctionConfiguration": function_configuration.get_function_configuration,
        "UpdateFunctionConfiguration": function_configuration.update_function_configuration,
        "UpdateFunctionCode": function_code.update_function_code,
        "PublishVersion": versions.publish_version,
        "ListVersionsByFunction": versions.list_versions_by_function,
        "CreateAlias": aliases.create_alias,
        "GetAlias": aliases.get_alias,
        "ListAliases": aliases.list_aliases,
        "UpdateAlias": aliases.update_alias,
        "DeleteAlias": aliases.delete_alias,
        "PutFunctionConcurrency": concurrency.put_function_concurrency,
        "GetFunctionConcurrency": concurrency.get_function_concurrency,
        "DeleteFunctionConcurrency": concurrency.delete_function_concurrency,
        "PutFunctionRecursionConfig": concurrency.put_function_recursion_config,
        "GetFunctionRecursionConfig": concurrency.get_function_recursion_config,
        "PutFunctionEventInvokeConfig": event_invoke.put_function_event_invoke_config,
        "UpdateFunctionEventInvokeConfig": event_invoke.update_function_event_invoke_config,
        "GetFunctionEventInvokeConfig": event_invoke.get_function_event_invoke_config,
        "ListFunctionEventInvokeConfigs": event_invoke.list_function_event_invoke_configs,
        "PutProvisionedConcurrencyConfig": provisioned.put_provisioned_concurrency_config,
        "GetProvisionedConcurrencyConfig": provisioned.get_provisioned_concurrency_config,
        "ListProvisionedConcurrencyConfigs": provisioned.list_provisioned_concurrency_configs,
        "DeleteProvisionedConcurrencyConfig": provisioned.delete_provisioned_concurrency_config,
        "DeleteFunctionEventInvokeConfig": event_invoke.delete_function_event_invoke_config,
        "CreateFunctionUrlConfig": urls.create_function_url_config,
        "GetFunctionUrlConfig": urls.get_function_url_config,
        "UpdateFunctionUrlConfig": urls.update_function_url_config,
        "DeleteFunctionUrlConfig": urls.delete_function_url_config,
        "ListFunctionUrlConfigs": urls.list_function_url_configs,
        "PublishLayerVersion": layers.publish_layer_version,
        "GetLayerVersion": layers.get_layer_version,
        "GetLayerVersionByArn": layers.get_layer_version_by_arn,
        "ListLayers": layers.list_layers,
        "ListLayerVersions": layers.list_layer_versions,
        "DeleteLayerVersion": layers.delete_layer_version,
        "TagResource": tags.tag_resource,
        "UntagResource": tags.untag_resource,
        "ListTags": tags.list_tags,
        "GetAccountSettings": account.get_account_settings,
    }
)
