"""What a boot must show beside its units being up. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.formats.device import HealthConfig
from appliance.formats.update_state import Trial, UpdateState


@dataclass(frozen=True)
class Demands:
    """verdict: inference has produced one since boot, and the uplink has it. broker: it has accepted the device."""

    verdict: bool
    broker: bool


@dataclass(frozen=True)
class UplinkState:
    """What the uplink says. accepted: verdicts since it started; connected: to the broker."""

    accepted: int
    connected: bool


def trial_of(state: UpdateState, *, version: int, counted: bool) -> Trial | None:
    """The trial that this boot is; None for a boot of the version that was there before, or of one that is confirmed.

    version: of the image that runs. counted: the boot loader counts this boot.
    """
    trial = state.trial
    # `staged`: the power failed after the entry was made bootable and before the journal said so
    running = trial is not None and trial.step in ("staged", "activated") and trial.version == version
    return trial if running and counted else None


def demands_of(config: HealthConfig, trial: Trial | None) -> Demands:
    """A trial is asked for a verdict, and for the broker unless the site lets it be confirmed offline."""
    online = trial is not None and trial.confirm == "online"
    return Demands(verdict=trial is not None, broker=config.require_broker or online)


def awaited(demands: Demands, uplink: UplinkState) -> str | None:
    """None when all is there; else what is still missing, as a sentence part."""
    if demands.verdict and uplink.accepted == 0:
        return "no verdict has reached the uplink"
    if demands.broker and not uplink.connected:
        return "the broker has not accepted the device"
    return None


def in_words(demands: Demands) -> str:
    """Why a boot is good that met `demands`."""
    met = ["every required unit is up"]
    met += ["a verdict has reached the uplink"] if demands.verdict else []
    met += ["the broker has accepted the device"] if demands.broker else []
    return ", ".join(met)
