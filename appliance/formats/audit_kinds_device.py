"""Audit events of the device itself: boot, clock, services, models, sources, what is plugged in, what a kernel saw."""

from __future__ import annotations

from appliance.formats.audit_kind import EventKind, kind

_PCRS = " ".join(f"pcr_{number}" for number in range(16))

BOOT: dict[str, EventKind] = {
    "boot-started": kind(
        "control-system",
        "EDR 3.14",
        "The device booted version {version} of {product}.",
        "product version# development?",
        security=True,
        writer_only=True,
    ),
    "boot-measured": kind(
        "control-system",
        "EDR 3.14",
        "Slot {slot} was booted, root hash {root_hash}; the TPM measured {pcr_4} in PCR 4, {pcr_7} in PCR 7 and"
        " {pcr_11} in PCR 11.",
        f"slot root_hash {_PCRS}",
        security=True,
        writer_only=True,
    ),
    "boot-unmeasured": kind(
        "control-system",
        "EDR 3.14",
        "Slot {slot} was booted, root hash {root_hash}; nothing measured it: {reason}.",
        "slot root_hash reason",
        security=True,
        writer_only=True,
    ),
    "boot-judged": kind("control-system", "CR 3.3", "The boot was judged: {reason}.", "reason seconds#", security=True),
    "configuration-loaded": kind(
        "configuration-change",
        "CR 7.6",
        "The device configuration with SHA-256 {sha256} is in force.",
        "sha256",
        security=True,
        writer_only=True,
    ),
    "credential-loaded": kind(
        "configuration-change",
        "CR 1.5",
        "The site's credential {name} with SHA-256 {sha256} is in force.",
        "name sha256",
        security=True,
        writer_only=True,
    ),
    "clock-stepped": kind(
        "control-system",
        "CR 2.11",
        "The wall clock was moved by {milliseconds} ms, forward: {forward}; it was {quality} before, is {now} now.",
        "milliseconds# forward? quality now",
        security=True,
        writer_only=True,
    ),
    "clock-behind": kind(
        "control-system",
        "CR 2.11",
        "The wall clock is {milliseconds} ms before the newest entry of the boot before.",
        "milliseconds#",
        security=True,
        writer_only=True,
    ),
    "time-quality-changed": kind(
        "control-system",
        "CR 2.11",
        "The time source was {before}, it is {now}.",
        "before now",
        security=True,
        writer_only=True,
    ),
    "recovery-key-escrowed": kind(
        "backup-restore",
        "CR 7.3",
        "A recovery key for volume {volume} was made and encrypted to key {key_sha256}.",
        "volume key_sha256",
        security=True,
    ),
    "recovery-key-failed": kind(
        "backup-restore", "CR 7.3", "No recovery key could be made: {reason}.", "reason", security=True
    ),
}

SERVICES: dict[str, EventKind] = {
    "service-started": kind("control-system", "CR 6.2", "{service} is ready.", "service"),
    "service-stopped": kind("control-system", "CR 6.2", "{service} stopped: {reason}.", "service reason"),
    "model-loaded": kind(
        "configuration-change",
        "EDR 2.4",
        "Model {model} ({sha256}) was loaded on {execution_provider}.",
        "model sha256 execution_provider",
        security=True,
    ),
    "source-opened": kind("control-system", "CR 6.2", "Frames are read from {source}.", "source"),
    "source-failed": kind("request-error", "CR 3.5", "Frames from {source} were refused: {reason}.", "source reason"),
    "verdicts-dropped": kind(
        "control-system", "CR 6.2", "{count} verdicts were not accepted by the uplink: {reason}.", "count# reason"
    ),
    "deadline-missed": kind(
        "control-system",
        "CR 7.1",
        "A frame took {latency_us} us; {deadline_ms} ms are allowed.",
        "latency_us# deadline_ms#",
    ),
    "events-lost": kind(
        "audit-log",
        "CR 2.10",
        "{count} events of a service were not recorded: {reason}.",
        "count# reason",
        security=True,
    ),
    "usb-admitted": kind(
        "access-control",
        "CR 2.3",
        "The USB device {device} with classes {classes} was let in.",
        "device classes",
        security=True,
    ),
    "usb-refused": kind(
        "access-control",
        "CR 2.3",
        "The USB device {device} was not let in: {reason}.",
        "device reason",
        security=True,
    ),
}

KERNEL: dict[str, EventKind] = {
    "device-found": kind(
        "access-control",
        "CR 2.3",
        "A device was plugged in at {port}: vendor {vendor}, product {product}.",
        "port vendor product",
        security=True,
    ),
    "device-removed": kind(
        "access-control", "CR 2.3", "The device {number} at {port} was unplugged.", "port number#", security=True
    ),
    "program-refused": kind(
        "access-control",
        "EDR 3.2",
        "The kernel refused {operation} of {path} on {device} by {command}: it is not sealed ({rule}).",
        "operation hook path device command rule pid#",
        security=True,
    ),
    "policy-changed": kind(
        "configuration-change",
        "EDR 3.2",
        "What the kernel lets run was changed: {what}.",
        "what",
        security=True,
    ),
    "lockdown-refused": kind(
        "access-control",
        "EDR 3.2",
        "The kernel refused {command} what lockdown forbids: {what}.",
        "command what",
        security=True,
    ),
    "seccomp-killed": kind(
        "access-control",
        "CR 2.1",
        "{command} (user {uid}) made the forbidden system call {call} and got signal {signal}.",
        "command program uid# call# signal#",
        security=True,
    ),
    "process-crashed": kind(
        "control-system",
        "CR 6.2",
        "{command} (user {uid}) crashed with signal {signal}.",
        "command program uid# signal#",
        security=True,
    ),
    "block-corrupted": kind(
        "control-system",
        "CR 3.4",
        "Block {block} of the sealed device {device} is not what it was sealed as.",
        "device block#",
        security=True,
    ),
    "module-refused": kind("access-control", "EDR 3.2", "The kernel refused a module: {what}.", "what", security=True),
    "service-failed": kind(
        "control-system", "CR 6.2", "The unit {unit} failed to {action}.", "unit action", security=True
    ),
    "login-failed": kind(
        "access-control",
        "CR 1.11",
        "{operation} for {account} by {program} from {address} failed.",
        "operation account program address",
        security=True,
    ),
    "intake-lost": kind(
        "audit-log",
        "CR 2.10",
        "{count} records of {source} were lost before they could be read; 0 stands for an unknown number.",
        "source count#",
        security=True,
    ),
    "intake-suppressed": kind(
        "audit-log",
        "CR 2.9",
        "{count} more events {event} of the kernel were not recorded one by one.",
        "event count#",
        security=True,
    ),
    "intake-unavailable": kind(
        "audit-log", "CR 2.10", "The kernel's {source} cannot be read: {reason}.", "source reason", security=True
    ),
}
