"""Messages to the members of AWS's operations and back, by their names alone: `function_name` is FunctionName.
So a new field of a message needs no code here, and the handlers see what they see from HTTP.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_M = TypeVar("_M", bound=Message)
_WORDS = {"ARCHITECTURE_X86_64": "x86_64", "ARCHITECTURE_ARM64": "arm64"}
_LAYERS = "lambent.v1.LayerList"


def aws_name(field: str) -> str:
    """`s3_object_version` is S3ObjectVersion."""
    return "".join(word[:1].upper() + word[1:] for word in field.split("_"))


def members_of(message: Message) -> dict[str, Any]:
    """What is set in a message, by AWS's names. A value that an enum does not have is given as its number's
    text, for the constraints to refuse."""
    return {aws_name(field.name): _member(field, value) for field, value in message.ListFields()}


def _member(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            return dict(value)
        if field.message_type.full_name == _LAYERS:
            return list(value.arns)
        return [members_of(each) for each in value] if field.is_repeated else members_of(value)
    if field.enum_type is not None:
        if field.is_repeated:
            return [word(field.enum_type, each) for each in value]
        return word(field.enum_type, value)
    return list(value) if field.is_repeated else value


def word(enum: EnumDescriptor, number: int) -> str:
    """`INVOCATION_TYPE_DRY_RUN` is DryRun."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    if value.name in _WORDS:
        return _WORDS[value.name]
    return aws_name(value.name.removeprefix(_prefix(enum)).lower())


def number(enum: EnumDescriptor, text: str) -> int:
    """The other way; 0 for a word that the enum does not have."""
    return next((value.number for value in enum.values if word(enum, value.number) == text), 0)


def _prefix(enum: EnumDescriptor) -> str:
    """What every value begins with: the unspecified one has nothing but that."""
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


def fill(message: _M, members: Mapping[str, Any]) -> _M:
    """Sets the fields that members are there for; members without a field are left out."""
    for field in message.DESCRIPTOR.fields:
        value = members.get(aws_name(field.name))
        if value is not None:
            _set(message, field, value)
    return message


def _set(message: Message, field: Any, value: Any) -> None:
    mine = getattr(message, field.name)
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            mine.update(value)
        elif isinstance(mine, Timestamp):
            mine.FromDatetime(datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%f%z"))
        elif field.is_repeated:
            for each in value:
                fill(mine.add(), each)
        else:
            mine.SetInParent()
            fill(mine, value)
    elif field.enum_type is not None:
        if field.is_repeated:
            mine.extend(number(field.enum_type, each) for each in value)
        else:
            setattr(message, field.name, number(field.enum_type, value))
    elif field.is_repeated:
        mine.extend(value)
    else:
        setattr(message, field.name, value)
