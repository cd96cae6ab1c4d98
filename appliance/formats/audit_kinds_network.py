"""Audit events of zones, conduits and the uplink."""

from __future__ import annotations

from appliance.formats.audit_kind import EventKind, kind

CONDUITS: dict[str, EventKind] = {
    "ruleset-loaded": kind(
        "configuration-change",
        "CR 5.1",
        "The sealed ruleset {sha256} is in force: {conduits} conduits, {closed} of them wait for the site's addresses.",
        "sha256 conduits# closed#",
        security=True,
    ),
    "ruleset-load-failed": kind(
        "configuration-change",
        "NDR 5.2",
        "The sealed ruleset {sha256} is not in force: {reason}.",
        "sha256 reason",
        security=True,
    ),
    "ruleset-drift": kind(
        "configuration-change",
        "NDR 5.2",
        "The live ruleset was not the sealed one, {count} differences: {differences}. Changed by {by}; {untold} more"
        " such events before were not recorded.",
        "differences count# by untold#",
        security=True,
    ),
    "ruleset-restored": kind(
        "configuration-change",
        "NDR 5.2",
        "The sealed ruleset is in force again, {milliseconds} ms after the difference was seen.",
        "milliseconds#",
        security=True,
    ),
    "slot-filled": kind(
        "configuration-change",
        "CR 5.1",
        "The site filled the slot {slot} with {addresses}.",
        "slot addresses",
        security=True,
    ),
    "slots-refused": kind(
        "configuration-change",
        "CR 5.1",
        "What the site fills slots with was refused: {reason}.",
        "reason",
        security=True,
    ),
    "conduit-drop": kind(
        "access-control",
        "NDR 5.2",
        "{count} packets were dropped ({reason}) on {interface}: {protocol} from {source} to {destination} port {port};"
        " {untold} more before were not recorded.",
        "reason interface protocol source destination port# count# untold#",
        security=True,
    ),
    "drops-unseen": kind(
        "access-control", "CR 6.2", "Dropped packets cannot be told of: {reason}.", "reason", security=True
    ),
}

UPLINK: dict[str, EventKind] = {
    "broker-connected": kind(
        "access-control", "CR 1.2", "The broker {broker} accepted the device.", "broker", security=True
    ),
    "broker-lost": kind(
        "access-control", "CR 1.2", "The broker {broker} cannot be used: {reason}.", "broker reason", security=True
    ),
    "certificate-renewed": kind(
        "access-control",
        "CR 1.8",
        "The broker took our new certificate, valid until {not_after} (seconds since 1970).",
        "not_after#",
        security=True,
    ),
    "certificate-refused": kind(
        "access-control",
        "CR 1.8",
        "A new certificate or its key is of no use: {reason}.",
        "reason",
        security=True,
    ),
    "certificate-rejected": kind(
        "access-control",
        "CR 1.8",
        "The new certificate was given up, the old one is in use: {reason}.",
        "reason",
        security=True,
    ),
    "uplink-refused": kind(
        "request-error", "CR 3.5", "A message of uid {uid} was refused: {reason}.", "uid# reason", security=True
    ),
    "broker-dates-unchecked": kind(
        "access-control",
        "CR 1.9",
        "The dates of the certificate of broker {broker} were not checked: the time is not known.",
        "broker",
        security=True,
    ),
    "subscription-refused": kind(
        "access-control",
        "CR 2.1",
        "The broker {broker} refused the subscription to {topics}.",
        "broker topics",
        security=True,
    ),
    "message-rejected": kind(
        "control-system",
        "CR 3.1",
        "The broker {broker} refused a message of the stream {stream}, {sequence}: {reason}.",
        "broker stream sequence# reason",
    ),
    "messages-dropped": kind(
        "control-system",
        "CR 7.2",
        "{count} messages of the stream {stream}, {first} to {last}, will never be delivered: {reason}.",
        "stream reason first# last# count#",
    ),
    "spool-full": kind(
        "control-system",
        "CR 7.2",
        "The stream {stream} of the spool is full at {bytes} bytes; new messages are refused.",
        "stream bytes#",
    ),
    "spool-unwritable": kind(
        "control-system",
        "CR 2.10",
        "The spool cannot be written, new messages are refused: {reason}.",
        "reason",
        security=True,
    ),
    "spool-recovered": kind("control-system", "CR 2.10", "The spool can be written again."),
    "spool-taken-over": kind(
        "control-system",
        "CR 7.3",
        "{count} messages of the spool of an earlier version were taken over.",
        "count#",
    ),
    "spool-replaced": kind(
        "control-system",
        "CR 3.4",
        "The spool was unreadable and was put aside: {reason}.",
        "reason",
        security=True,
    ),
}
