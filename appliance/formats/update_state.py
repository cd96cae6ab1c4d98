"""What edgeseal-update remembers over a power cut. Spec: docs/specs/update-state.md (v1).

One file, /var/lib/edgeseal-update/state.json, replaced durably before the step that it announces. Canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.approval import Offsets, Windows
from appliance.formats.device import FrozenStruct, Sha256Hex
from appliance.formats.release import Version

STATE_PATH = "/var/lib/edgeseal-update/state.json"
MAX_STATE_BYTES = 256 << 10
MAX_REFUSED = 32

SlotName = Literal["a", "b"]
Step = Literal["decided", "staged", "activated"]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Trial(FrozenStruct, frozen=True, kw_only=True):
    """An update on its way.

    transaction: names it in the audit log. release: sha256 of its manifest, which is kept beside the state.
    policy_sequence: of the policy that let it in. windows, offsets: of the site; work on it pauses outside of them.
    clock, time_unknown: as the policy says; without a time, work waits or goes on.
    step: the last one that is announced; the one before it is done.
    """

    transaction: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}(?!\n)$")]
    release: Sha256Hex
    version: Version
    security_epoch: Whole
    slot: SlotName
    step: Step
    confirm: Literal["online", "offline"]
    policy_sequence: Whole = 0
    windows: Windows = ()
    offsets: Offsets = ()
    clock: Literal["machine", "none"] = "machine"
    time_unknown: Literal["wait", "install"] = "wait"


class Refused(FrozenStruct, frozen=True, kw_only=True):
    """A release that fell back. It is tried again only under a newer policy than the one that let it in."""

    release: Sha256Hex
    policy_sequence: Whole
    reason: Annotated[str, msgspec.Meta(max_length=1024)]


class UpdateState(FrozenStruct, frozen=True, kw_only=True):
    """t_low: the latest time that a signature vouched for, Unix seconds. policy_sequence: the newest seen.

    security_epoch: the highest that was ever confirmed here; no smaller one is installed.
    """

    schema: Literal[1] = 1
    t_low: Whole = 0
    policy_sequence: Whole = 0
    security_epoch: Whole = 0
    trial: Trial | None = None
    refused: Annotated[tuple[Refused, ...], msgspec.Meta(max_length=MAX_REFUSED)] = ()


def with_trial(state: UpdateState, trial: Trial | None) -> UpdateState:
    """With another update on its way, or with none."""
    return msgspec.structs.replace(state, trial=trial)


def with_step(state: UpdateState, step: Step) -> UpdateState:
    """With the trial, which there must be, one step on."""
    assert state.trial is not None
    return with_trial(state, msgspec.structs.replace(state.trial, step=step))


def with_refused(state: UpdateState, refused: Refused) -> UpdateState:
    """Without a trial, and with one more release that fell back; the oldest is forgotten."""
    return msgspec.structs.replace(state, trial=None, refused=(*state.refused, refused)[-MAX_REFUSED:])


def with_epoch(state: UpdateState, epoch: int) -> UpdateState:
    """With the security epoch raised to at least `epoch`."""
    return msgspec.structs.replace(state, security_epoch=max(state.security_epoch, epoch))


def with_seen(state: UpdateState, *, t_low: int, policy_sequence: int) -> UpdateState:
    """With what was accepted: neither mark ever falls."""
    return msgspec.structs.replace(
        state, t_low=max(state.t_low, t_low), policy_sequence=max(state.policy_sequence, policy_sequence)
    )


def encode_state(state: UpdateState) -> bytes:
    """The canonical bytes."""
    return canonical_json(msgspec.to_builtins(state))


def decode_state(data: bytes) -> UpdateState:
    """Raises DecodeError on anything but exactly the canonical bytes of an UpdateState."""
    if len(data) > MAX_STATE_BYTES:
        raise DecodeError(f"update state: {len(data)} bytes, at most {MAX_STATE_BYTES} are allowed")
    try:
        state = msgspec.json.decode(data, type=UpdateState)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"update state: {error}") from error
    if encode_state(state) != data:
        raise DecodeError("update state: not in canonical form")
    return state
