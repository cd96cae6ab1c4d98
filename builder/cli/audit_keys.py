"""The options of `edgeseal audit` that say whom one believes."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.core.errors import DecodeError, InputError, Place
from appliance.formats.signed_note import COSIGNATURE, VerifierKey, decode_vkey
from builder.audit.policy import Policy, read_policy, witnesses_needed


def key_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--vkey, --witness-vkey, --policy. required: one of --vkey and --policy; said in the help, held by read_keys."""
    needed = "" if required else "; without it nothing is verified"
    parser.add_argument(
        "--vkey",
        metavar="VKEY",
        action="append",
        default=[],
        help=f"the log's key, or a file of keys, one a line{needed}",
    )
    parser.add_argument(
        "--witness-vkey", metavar="VKEY", action="append", default=[], help="a witness that must have cosigned"
    )
    parser.add_argument("--policy", metavar="FILE", type=Path, help="logs, witnesses and quorum (C2SP tlog-policy)")


def read_keys(arguments: argparse.Namespace) -> tuple[list[VerifierKey], Policy]:
    """The log's keys, and the policy. Raises InputError."""
    if arguments.policy is not None and arguments.witness_vkey:
        raise InputError("--policy and --witness-vkey cannot be used together", hint="name the witness in the policy")
    keys = [key for text in arguments.vkey for key in read_vkeys(text)]
    if arguments.policy is None:
        witnesses = [key for text in arguments.witness_vkey for key in read_vkeys(text)]
        for key in witnesses:
            if key.kind != COSIGNATURE:
                raise InputError(f"--witness-vkey: the key of {key.name} is not one for cosignatures (type 0x04)")
        policy = witnesses_needed(witnesses)
    else:
        try:
            policy = read_policy(arguments.policy.read_bytes(), file=str(arguments.policy))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"cannot read the policy: {reason}", place=Place(str(arguments.policy))) from error
    keys += [key for key in policy.logs if key not in keys]
    if not keys:
        raise InputError("no key of the log was given", hint="give --vkey, or a policy with a log line")
    for key in keys:
        if key.kind == COSIGNATURE:
            raise InputError(f"--vkey: the key of {key.name} is one of a witness (type 0x04)")
    return keys, policy


def read_vkeys(text: str) -> list[VerifierKey]:
    """text: a key, or the path of a file with one a line. Raises InputError."""
    path = Path(text)
    try:
        if "+" not in text or path.is_file():
            lines = [line for line in path.read_text().splitlines() if line.strip()]
            return [decode_vkey(line.strip()) for line in lines]
        return [decode_vkey(text)]
    except DecodeError as error:
        raise InputError(error.message, place=Place(text) if path.is_file() else None) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not text"
        raise InputError(f"cannot read the key: {reason}", place=Place(text)) from error
