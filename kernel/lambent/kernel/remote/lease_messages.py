"""The messages of leases on the wire and as `kernel.leases` has them; one line a field, so that a reader sees
that nothing is left out."""

from lambent.internal.v1 import leases_pb2 as pb
from lambent.kernel import leases
from lambent.kernel.models import VersionKey


def key_to(key: VersionKey) -> pb.VersionKey:
    return pb.VersionKey(uid=key.uid, version=key.version, generation=key.generation)


def key_of(key: pb.VersionKey) -> VersionKey:
    return VersionKey(key.uid, key.version, key.generation)


def ask_to(shard: int, ask: leases.Ask) -> pb.AskRequest:
    return pb.AskRequest(shard=shard, **{**ask._asdict(), "key": key_to(ask.key)})


def ask_of(ask: pb.AskRequest) -> leases.Ask:
    return leases.Ask(
        ask.holder,
        ask.name,
        key_of(ask.key),
        ask.bucket,
        ask.memory_mb,
        ask.digest,
        ask.want,
        tuple(ask.avoid),
    )


def reply_to(reply: leases.Reply) -> pb.AskResponse:
    if isinstance(reply, leases.Refused):
        return pb.AskResponse(refused=reply.reason)
    return pb.AskResponse(grants=[pb.Grant(**grant._asdict()) for grant in reply])


def reply_of(reply: pb.AskResponse) -> leases.Reply:
    if reply.refused:
        return leases.Refused(reply.refused)
    return tuple(
        leases.Granted(
            grant.lease,
            grant.epoch,
            grant.executor,
            grant.bucket,
            grant.slots,
            grant.added,
            grant.seconds,
        )
        for grant in reply.grants
    )


def renewed_to(renewed: leases.Renewed) -> pb.RenewedLeases:
    return pb.RenewedLeases(
        leases={
            lease: pb.RenewedLease(slots=slots, seconds=seconds)
            for lease, (slots, seconds) in renewed.leases.items()
        },
        stale=renewed.stale,
        freed=renewed.freed,
        wait=renewed.wait,
    )


def renewed_of(renewed: pb.RenewedLeases) -> leases.Renewed:
    return leases.Renewed(
        {lease: (each.slots, each.seconds) for lease, each in renewed.leases.items()},
        tuple(renewed.stale),
        tuple(renewed.freed),
        renewed.wait,
    )


def _state_to(state: leases.LeaseState) -> pb.LeaseState:
    return pb.LeaseState(**{**state._asdict(), "key": key_to(state.key)})


def _state_of(state: pb.LeaseState) -> leases.LeaseState:
    return leases.LeaseState(
        state.id,
        state.shard,
        key_of(state.key),
        state.bucket,
        state.holder,
        state.memory_mb,
        state.slots,
        state.running,
        state.open,
    )


def _beat_to(beat: leases.Beat) -> pb.Beat:
    return pb.Beat(
        executor=beat.executor,
        number=beat.number,
        seen=beat.seen,
        epochs=beat.epochs,
        leases=[_state_to(state) for state in beat.leases],
        memory_mb=beat.memory_mb,
        granted_mb=beat.granted_mb,
        warm=[pb.WarmEnvironments(key=key_to(key), count=count) for key, count in beat.warm.items()],
        cached=sorted(beat.cached),
        kept=[pb.KeptEnvironments(**{**kept._asdict(), "key": key_to(kept.key)}) for kept in beat.kept],
        draining=beat.draining,
        replaces=beat.replaces,
    )


def _beat_of(beat: pb.Beat) -> leases.Beat:
    return leases.Beat(
        beat.executor,
        beat.number,
        beat.seen,
        dict(beat.epochs),
        tuple(_state_of(state) for state in beat.leases),
        beat.memory_mb,
        beat.granted_mb,
        {key_of(warm.key): warm.count for warm in beat.warm},
        frozenset(beat.cached),
        tuple(
            leases.KeptState(key_of(kept.key), kept.bucket, kept.started, kept.ready, kept.failed, kept.wanted)
            for kept in beat.kept
        ),
        beat.draining,
        beat.replaces,
    )


def from_executor(message: leases.FromExecutor) -> pb.JoinRequest:
    if isinstance(message, leases.Beat):
        return pb.JoinRequest(beat=_beat_to(message))
    if isinstance(message, leases.Bye):
        return pb.JoinRequest(bye=pb.Bye(executor=message.executor))
    done = pb.LeaseDone(request=message.request, lease=message.lease, reason=message.reason)
    if message.state is not None:
        done.state.CopyFrom(_state_to(message.state))
    return pb.JoinRequest(done=done)


def of_executor(message: pb.JoinRequest) -> leases.FromExecutor | None:
    """None for what a newer release says."""
    kind = message.WhichOneof("message")
    if kind == "beat":
        return _beat_of(message.beat)
    if kind == "bye":
        return leases.Bye(message.bye.executor)
    if kind == "done":
        done = message.done
        state = _state_of(done.state) if done.HasField("state") else None
        return leases.Done(done.request, done.lease, state, done.reason)
    return None


def to_executor(message: leases.ToExecutor) -> pb.JoinResponse:
    if isinstance(message, leases.Claim):
        return pb.JoinResponse(claim=pb.Claim(**message._asdict()))
    if isinstance(message, leases.Answer):
        return pb.JoinResponse(answer=pb.BeatAnswer(**message._asdict()))
    if isinstance(message, leases.Open):
        return pb.JoinResponse(open=pb.OpenLease(**{**message._asdict(), "key": key_to(message.key)}))
    if isinstance(message, leases.Resize):
        return pb.JoinResponse(resize=pb.ResizeLease(**message._asdict()))
    if isinstance(message, leases.Close):
        return pb.JoinResponse(close=pb.CloseLease(**message._asdict()))
    return pb.JoinResponse(keep=pb.KeepEnvironments(**{**message._asdict(), "key": key_to(message.key)}))


def at_executor(message: pb.JoinResponse) -> leases.ToExecutor | None:
    """None for what a newer release says."""
    kind = message.WhichOneof("message")
    if kind == "claim":
        return leases.Claim(message.claim.request, message.claim.shard, message.claim.epoch)
    if kind == "answer":
        return leases.Answer(message.answer.number, dict(message.answer.epochs), dict(message.answer.renew))
    if kind == "open":
        return _open_of(message.open)
    if kind == "resize":
        resize = message.resize
        return leases.Resize(resize.request, resize.shard, resize.epoch, resize.lease, resize.slots)
    if kind == "close":
        close = message.close
        return leases.Close(close.request, close.shard, close.epoch, close.lease)
    if kind == "keep":
        keep = message.keep
        return leases.Keep(
            keep.request,
            keep.shard,
            keep.epoch,
            key_of(keep.key),
            keep.bucket,
            keep.wanted,
            keep.target,
            dict(keep.tags),
        )
    return None


def _open_of(message: pb.OpenLease) -> leases.Open:
    return leases.Open(
        message.request,
        message.shard,
        message.epoch,
        message.lease,
        key_of(message.key),
        message.bucket,
        message.holder,
        message.memory_mb,
        message.slots,
        message.seconds,
    )
