"""The kernel's values as frames and back. No JSON but the store's, once per version and connection."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lambent.internal.v1.host_pb2 import (
    EnforcementAnswer,
    EnforcementEntry,
    Failed,
    Frame,
    Invoke,
    LeaseMark,
    ResponseHead,
    StopFunction,
    StreamHead,
    VersionMark,
)
from lambent.internal.v1.host_pb2 import Report as ReportFrame
from lambent.kernel import errors, models
from lambent.kernel.errors import LambdaError, NotStarted, ServiceException, TooManyRequestsException
from lambent.kernel.models import FunctionVersion, Invocation, Outcome, Report, Response, VersionKey
from lambent.kernel.ports import Lease
from lambent.kernel.remote.frames import INLINE

_TEXT = 4096  # characters of what a function or an error says; nothing that is read needs more
_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_ERRORS: Mapping[str, type[LambdaError]] = {
    name: each
    for name, each in vars(errors).items()
    if isinstance(each, type) and issubclass(each, LambdaError)
}


def invoke_frame(stream: int, number: int, invocation: Invocation, lease: Lease) -> Frame:
    """With the payload, if that is small. Raises ValueError for text that is not Unicode."""
    frame = Frame()
    frame.stream = stream
    invoke = frame.invoke
    invoke.request_id = invocation.request_id
    invoke.target = number
    invoke.invoked_arn = invocation.invoked_arn
    invoke.trace_id = invocation.trace_id
    if invocation.client_context is not None:
        invoke.client_context = invocation.client_context
    if invocation.cognito_identity is not None:
        invoke.cognito_identity = invocation.cognito_identity
    if invocation.want_log_tail:
        invoke.want_log_tail = True
    invoke.trigger = invocation.trigger
    if invocation.tags:
        invoke.tags.update(invocation.tags)
    if invocation.alias:
        invoke.alias = invocation.alias
    if invocation.streaming:
        invoke.streaming = True
    invoke.length = len(invocation.payload)
    if len(invocation.payload) <= INLINE:
        invoke.payload = invocation.payload
    mark = invoke.lease
    mark.id = lease.id
    mark.shard = lease.shard
    mark.epoch = lease.epoch
    mark.holder = lease.holder
    mark.bucket = lease.bucket
    mark.slots = lease.slots
    mark.seconds = lease.seconds
    return frame


def invocation_of(invoke: Invoke, target: FunctionVersion, payload: bytes) -> Invocation:
    return Invocation(
        invoke.request_id,
        target,
        invoke.invoked_arn,
        payload,
        invoke.trace_id,
        invoke.client_context if invoke.HasField("client_context") else None,
        invoke.cognito_identity if invoke.HasField("cognito_identity") else None,
        invoke.want_log_tail,
        invoke.trigger,
        dict(invoke.tags) if invoke.tags else _NO_TAGS,
        invoke.alias,
        invoke.streaming,
    )


def lease_of(mark: LeaseMark, key: VersionKey, executor: str) -> Lease:
    """A lease is of the version that runs under it, on the executor that is asked."""
    return Lease(
        mark.id, mark.epoch, key, executor, mark.slots, mark.seconds, mark.bucket, mark.shard, mark.holder
    )


def response_frame(stream: int, response: Response) -> Frame:
    """With the payload, if that is small."""
    frame = Frame()
    frame.stream = stream
    head = frame.response
    if response.function_error is not None:
        head.function_error = _text(response.function_error)
    if response.error_type is not None:
        head.error_type = _text(response.error_type)
    head.content_type = _text(response.content_type)
    head.length = len(response.payload)
    if len(response.payload) <= INLINE:
        head.payload = response.payload
    return frame


def stream_frame(stream: int, content_type: str) -> Frame:
    """A response that comes as it is made begins."""
    return Frame(stream=stream, stream_head=StreamHead(content_type=_text(content_type)))


def response_of(head: ResponseHead, payload: bytes) -> Response:
    return Response(
        payload,
        head.function_error if head.HasField("function_error") else None,
        head.error_type if head.HasField("error_type") else None,
        head.content_type,
    )


def report_frame(stream: int, report: Report) -> Frame:
    frame = Frame()
    frame.stream = stream
    to = frame.report
    to.outcome = report.outcome.value
    to.duration_ms = report.duration_ms
    to.billed_ms = report.billed_ms
    if report.init_ms is not None:
        to.init_ms = report.init_ms
    to.memory_size = report.memory_size
    to.max_memory_used = report.max_memory_used
    if report.log_tail:
        to.log_tail = report.log_tail
    return frame


def report_of(frame: ReportFrame) -> Report:
    """An outcome that this release does not know is an error."""
    return Report(
        _OUTCOMES.get(frame.outcome, Outcome.ERROR),
        frame.duration_ms,
        frame.billed_ms,
        frame.init_ms if frame.HasField("init_ms") else None,
        frame.memory_size,
        frame.max_memory_used,
        frame.log_tail,
    )


def failed_frame(stream: int, error: LambdaError) -> Frame:
    return Frame(
        stream=stream,
        failed=Failed(
            code=type(error).__name__,
            message=_text(error.message, 4 * _TEXT),
            members={name: _text(value) for name, value in error.members.items()},
            reason=error.reason if isinstance(error, NotStarted) else "",
        ),
    )


def error_of(failed: Failed) -> LambdaError:
    """One of a class that this release does not know is a ServiceException."""
    kind = _ERRORS.get(failed.code, ServiceException)
    members = {name: value for name, value in failed.members.items() if name not in ("self", "message")}
    if issubclass(kind, NotStarted):
        return kind(failed.reason, failed.message)
    if issubclass(kind, TooManyRequestsException):
        return kind(members.get("Reason", ""), failed.message)
    return kind(failed.message, **members)


def stop_frame(stream: int, uid: str, version: str | None, keep: VersionKey | None) -> Frame:
    stop = StopFunction(uid=uid, version=version)
    if keep is not None:
        stop.keep.CopyFrom(VersionMark(uid=keep.uid, version=keep.version, generation=keep.generation))
    return Frame(stream=stream, stop_function=stop)


def enforcement_frame(stream: int, entries: Sequence[models.Enforcement]) -> Frame:
    answer = EnforcementAnswer(
        entries=[
            EnforcementEntry(
                name=_text(entry.name),
                enforced=entry.enforced,
                how=_text(entry.how),
                advice=_text(entry.advice),
            )
            for entry in entries
        ]
    )
    return Frame(stream=stream, enforcement_answer=answer)


def enforcement_of(answer: EnforcementAnswer) -> tuple[models.Enforcement, ...]:
    return tuple(models.Enforcement(e.name, e.enforced, e.how, e.advice) for e in answer.entries)


def _text(value: str, most: int = _TEXT) -> str:
    """As a frame takes it: not too long, and without halves of surrogate pairs."""
    return value[:most].encode(errors="replace").decode()
