"""`edgeseal recovery open`: prove that the owner's key opens a device's data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError, Place
from builder.cli.command import Command
from builder.disk.recovery import open_volume
from builder.host.paths import keys_directory
from builder.host.toolstree import tools_tree
from builder.signing.descriptor import Secret, read_secret
from builder.signing.keyfiles import key_path, read_private_key
from builder.signing.roles import Role


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("disk", type=Path, metavar="DISK", help="the device's disk, or a copy of it")
    parser.add_argument("--keys", type=Path, metavar="DIR", help="where the recovery key is (default: the dev keys)")
    parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="its passphrase (FILE has mode 0600)")
    parser.add_argument("--show-key", action="store_true", help="print the volume's recovery key as well")


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    if not arguments.disk.exists():
        raise InputError("there is no such disk", place=Place(str(arguments.disk)))
    directory = arguments.keys or keys_directory() / "dev"
    passphrase = None
    if arguments.passphrase_file:
        secret = Secret(file=str(arguments.passphrase_file))
        passphrase = read_secret(secret, {}, what="passphrase of the recovery key", directory=Path())
    private_key = read_private_key(key_path(directory, Role.RECOVERY), Role.RECOVERY, passphrase)
    opened = open_volume(arguments.disk, private_key, tools_tree())
    result: dict[str, Any] = {"volume": opened.volume, "keyslot": opened.keyslot}
    return result | ({"recovery_key": opened.key} if arguments.show_key else {})


def _render(result: dict[str, Any]) -> str:
    line = f"volume {result['volume']}: the escrowed key opens key slot {result['keyslot']}"
    return f"{line}\n{result['recovery_key']}" if "recovery_key" in result else line


COMMANDS = (
    Command(
        path=("recovery", "open"),
        help="decrypt a device's escrowed recovery key and prove that it opens the data partition",
        arguments=_arguments,
        execute=_execute,
        render=_render,
    ),
)
