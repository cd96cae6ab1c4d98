"""Audit events of updates and models. transaction: 16 hex digits, from the decision to the end, over reboots too."""

from __future__ import annotations

from appliance.formats.audit_kind import EventKind, kind

UPDATES: dict[str, EventKind] = {
    "update-checked": kind(
        "control-system",
        "EDR 3.10",
        "Updates were looked for at {source}: {outcome}: {reason}.",
        "source outcome reason version#",
    ),
    "update-decided": kind(
        "configuration-change",
        "EDR 3.10",
        "Version {version} will be installed: policy {policy_sequence}, change {ticket}.",
        "transaction version# release policy_sequence# ticket",
        security=True,
    ),
    "freshness-unproven": kind(
        "access-control",
        "EDR 3.10",
        "Nothing proves that version {version} is the newest: metadata lapses at {expires}, it is {t_low} or later.",
        "transaction version# expires# t_low#",
        security=True,
    ),
    "update-resumed": kind(
        "control-system",
        "EDR 3.10",
        "Work on version {version}, which was {step}, goes on.",
        "transaction version# step",
    ),
    "update-interrupted": kind(
        "control-system", "EDR 3.10", "Work on version {version} stopped: {reason}.", "transaction version# reason"
    ),
    "update-staged": kind(
        "configuration-change",
        "EDR 3.10",
        "Version {version} is in slot {slot}: {fetched} bytes fetched, {copied} copied, in {seconds} s.",
        "transaction version# slot fetched# copied# seconds#",
        security=True,
    ),
    "update-activated": kind(
        "configuration-change",
        "EDR 3.10",
        "Version {version} in slot {slot} is the next to boot, {tries} times at most.",
        "transaction version# slot tries#",
        security=True,
    ),
    "update-trial-booted": kind(
        "control-system", "EDR 3.10", "Version {version} runs on trial.", "transaction version#", security=True
    ),
    "update-confirmed": kind(
        "configuration-change",
        "EDR 3.10",
        "Version {version} is confirmed: {reason}.",
        "transaction version# reason",
        security=True,
    ),
    "update-fell-back": kind(
        "configuration-change",
        "CR 7.4",
        "Version {version} was left for version {running}: {reason}.",
        "transaction version# running# reason",
        security=True,
    ),
    "update-state-replaced": kind(
        "control-system",
        "CR 3.4",
        "The update state was unreadable and was put aside: {reason}.",
        "reason",
        security=True,
    ),
    "security-epoch-raised": kind(
        "configuration-change",
        "EDR 3.10",
        "The security epoch is {epoch}: nothing below it is installed any more. In the TPM: {tpm}.",
        "epoch# tpm",
        security=True,
    ),
    "security-epoch-unreadable": kind(
        "control-system", "EDR 3.10", "The TPM does not tell its security epoch: {reason}.", "reason", security=True
    ),
    "boot-entry-restored": kind(
        "backup-restore", "CR 7.4", "The boot entry of version {version} was written again.", "version#", security=True
    ),
    "repository-unreachable": kind(
        "control-system",
        "CR 1.2",
        "The repositories cannot be reached by {source}, {count} attempts: {reason}.",
        "source count# reason",
    ),
    "medium-seen": kind(
        "access-control", "CR 2.3", "A medium with updates is there: {medium}.", "medium", security=True
    ),
}

MODELS: dict[str, EventKind] = {
    "model-checked": kind(
        "control-system",
        "EDR 2.4",
        "Model {model} was looked for at {source}: {outcome}: {reason}.",
        "model source outcome reason version#",
    ),
    "model-decided": kind(
        "configuration-change",
        "EDR 2.4",
        "Version {version} of model {model} will be fetched: policy {policy_sequence}, change {ticket}.",
        "transaction model version# release policy_sequence# ticket",
        security=True,
    ),
    "model-freshness-unproven": kind(
        "access-control",
        "EDR 2.4",
        "Nothing proves that version {version} of model {model} is the newest: metadata lapses at {expires}, it is "
        "{t_low} or later.",
        "transaction model version# expires# t_low#",
        security=True,
    ),
    "model-resumed": kind(
        "control-system",
        "EDR 2.4",
        "Work on version {version} of model {model} goes on.",
        "transaction model version#",
    ),
    "model-interrupted": kind(
        "control-system",
        "EDR 2.4",
        "Work on version {version} of model {model} stopped: {reason}.",
        "transaction model version# reason",
    ),
    "model-dropped": kind(
        "configuration-change",
        "EDR 2.4",
        "Version {version} of model {model} is not wanted any more: {reason}.",
        "transaction model version# reason",
        security=True,
    ),
    "model-stored": kind(
        "configuration-change",
        "EDR 2.4",
        "Version {version} of model {model} ({sha256}) is here: {fetched} bytes fetched, in {seconds} s.",
        "transaction model version# sha256 fetched# seconds#",
        security=True,
    ),
}
