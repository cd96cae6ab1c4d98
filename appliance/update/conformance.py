"""The command line of the upstream tuf-conformance suite, on the client that devices run. Not part of a service.

    python -m appliance.update.conformance --metadata-dir DIR init TRUSTED_ROOT
    python -m appliance.update.conformance --metadata-dir DIR --metadata-url URL refresh
    python -m appliance.update.conformance … --target-name NAME --target-base-url URL --target-dir DIR download

--target-name may be given more than once: the targets are fetched in that order after one refresh, and the first that
fails ends the command.

Exit status 0 or 1, 2 for a wrong command line. Here, and only here, the reference time is the machine's clock: the
suite sets it with faketime and expects a client to believe it.
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from appliance.core.durable import write_durable
from appliance.core.errors import EdgesealError, InputError, VerificationError
from appliance.formats.device import UpdateConfig
from appliance.machine.clock import system_clock
from appliance.machine.notify import say
from appliance.update.client import TrustedRepository
from appliance.update.http import HttpSource, Surroundings

TRUSTED_ROOT = "trusted-root"
"""What `init` was given; a device has it in its image or as a credential. No `.json`: it is no role's metadata."""

MAX_TARGET_BYTES = 64 << 20


class TwoAddresses:
    """A FileSource for a repository whose metadata and targets have an address each."""

    def __init__(self, metadata_url: str, target_url: str | None) -> None:
        self._metadata = _source(metadata_url)
        self._targets = None if target_url is None else _source(target_url)

    def get(self, path: str, *, at_most: int) -> bytes:
        """As FileSource says."""
        kind, _, rest = path.partition("/")
        source = self._metadata if kind == "metadata" else self._targets
        if source is None:
            raise InputError("--target-base-url is needed to download")
        return source.get(rest, at_most=at_most)


def main(words: Sequence[str] | None = None) -> int:
    """The exit status."""
    order = _parser().parse_args(words)
    try:
        _COMMANDS[order.command](order)
    except (EdgesealError, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


def _init(order: argparse.Namespace) -> None:
    root = order.trusted_root.read_bytes()
    order.metadata_dir.mkdir(parents=True, exist_ok=True)
    write_durable(order.metadata_dir / TRUSTED_ROOT, root)
    write_durable(order.metadata_dir / "root.json", root)


def _refresh(order: argparse.Namespace) -> TrustedRepository:
    if order.metadata_url is None:
        raise InputError("--metadata-url is needed to refresh")
    repository = TrustedRepository(
        order.metadata_dir,
        (order.metadata_dir / TRUSTED_ROOT).read_bytes(),
        TwoAddresses(order.metadata_url, order.target_base_url),
        UpdateConfig(),
        name="repository",
    )
    repository.refresh(system_clock()().wall_us // 1_000_000)
    return repository


def _download(order: argparse.Namespace) -> None:
    if not order.target_name or order.target_dir is None:
        raise InputError("--target-name and --target-dir are needed to download")
    repository = _refresh(order)
    for name in order.target_name:
        _download_one(repository, name, order.target_dir)


def _download_one(repository: TrustedRepository, name: str, directory: Path) -> None:
    target = repository.target(name)
    if target is None:
        raise VerificationError(f"repository: no role names {name}")
    file = directory / quote(target.path, "")
    try:
        repository.check(target, file.read_bytes())
    except (OSError, VerificationError):  # not there yet, or no longer what is signed
        write_durable(file, repository.fetch(target, at_most=MAX_TARGET_BYTES))


_COMMANDS = {"init": _init, "refresh": _refresh, "download": _download}


def _source(url: str) -> HttpSource:
    around = Surroundings(clock=time.monotonic, sleep=time.sleep, draw=lambda: secrets.randbelow(1 << 30) / (1 << 30))
    return HttpSource(url, name="repository", ca=None, config=UpdateConfig(), attempts=1, around=around, bucket=None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="appliance.update.conformance", allow_abbrev=False)
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path, metavar="TRUSTED_ROOT")
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
