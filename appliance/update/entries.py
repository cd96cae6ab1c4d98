"""Boot entries: their names, the order in which systemd-boot takes them, and what they tell after a boot. Pure.

Spec: docs/specs/boot-entries.md (v1). Names follow the UAPI group's Boot Loader Specification (boot counting).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.update_state import SlotName, Trial

DIRECTORY = "EFI/Linux"
"""Below the ESP."""

_NAME = re.compile(r"edgeseal_([1-9][0-9]{0,9})(?:\+(0|[1-9][0-9]?)-(0|[1-9][0-9]{0,9}))?\.efi", re.ASCII)
_PARKED = re.compile(_NAME.pattern.removesuffix("efi") + "dup", re.ASCII)
_SHORT_NAME = re.compile(r"(?:EDGES|ED[0-9A-F]{4})[^.]?~[1-9]\.EFI", re.ASCII | re.IGNORECASE)
_LARGEST_VERSION = 2**31 - 1


@dataclass(frozen=True)
class Entry:
    """The name of a kernel image. left: boots that a version on trial still has; None when it is confirmed."""

    version: int
    left: int | None = None
    done: int = 0

    @property
    def confirmed(self) -> bool:
        """No counter: it boots for ever."""
        return self.left is None

    @property
    def name(self) -> str:
        """The file's name."""
        counter = "" if self.left is None else f"+{self.left}-{self.done}"
        return f"edgeseal_{self.version}{counter}.efi"


@dataclass(frozen=True)
class Found:
    """A file in the directory of entries.

    entry: None when the name is not one of ours in full (see `is_ours`).
    root_hash: of the root that it boots; None when it has no readable header: then no boot loader takes it.
    """

    name: str
    entry: Entry | None
    root_hash: str | None

    @property
    def bootable(self) -> bool:
        """The boot loader sees an image in it."""
        return self.root_hash is not None


@dataclass(frozen=True)
class Running:
    """What this boot runs."""

    version: int
    slot: SlotName
    root_hash: str


@dataclass(frozen=True)
class Quiet:
    """Nothing is on its way, and the running version is confirmed."""


@dataclass(frozen=True)
class OnTrial:
    """The running version has not been confirmed: nothing may be removed or staged. left: boots that remain."""

    left: int


@dataclass(frozen=True)
class Confirmed:
    """The journalled update is confirmed and can be forgotten."""


@dataclass(frozen=True)
class MustStage:
    """The journalled update was interrupted before its slot was staged: clear the other entries, stage again."""


@dataclass(frozen=True)
class MustActivate:
    """The slot is staged, its entry is not in place: write it (again)."""


@dataclass(frozen=True)
class MustReboot:
    """The entry is in place and was not booted yet. left: boots that it has."""

    left: int


@dataclass(frozen=True)
class FellBack:
    """The journalled update is not what runs, and will not be."""

    reason: str


@dataclass(frozen=True)
class EntryLost:
    """The running version has no entry that boots: it must be written again before anything else is touched."""


Situation = Quiet | OnTrial | Confirmed | MustStage | MustActivate | MustReboot | FellBack | EntryLost


def parse_entry(name: str) -> Entry:
    """Raises DecodeError on any name that `Entry.name` cannot give."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[1]) > _LARGEST_VERSION:
        raise DecodeError(f"boot entry {name!r}: neither edgeseal_VERSION.efi nor edgeseal_VERSION+LEFT-DONE.efi")
    if match[2] is None:
        return Entry(int(match[1]))
    return Entry(int(match[1]), int(match[2]), int(match[3]))


def parked_name(name: str) -> str:
    """Of an entry's second name, which the boot loader is not to see."""
    return name.removesuffix(".efi") + ".dup"


def version_of(name: str) -> int | None:
    """Of an entry or a parked one; None for every other name."""
    match = _NAME.fullmatch(name) or _PARKED.fullmatch(name)
    return int(match[1]) if match else None


def is_ours(name: str) -> bool:
    """Whether the name is an entry's, a parked one, or the 8.3 name of one whose long name a power cut took."""
    return version_of(name) is not None or _SHORT_NAME.fullmatch(name) is not None


def boot_order(entries: Iterable[Entry]) -> list[Entry]:
    """As systemd-boot sorts them: no tries left last, then the newest version, then by name, then most tries left."""
    return sorted(
        entries,
        key=lambda entry: (entry.left == 0, -entry.version, entry.confirmed, -(entry.left or 0), -entry.done),
    )


def next_boot(found: Iterable[Found]) -> Entry | None:
    """What the boot loader starts next. Other names than ours in full are not counted."""
    return next(iter(boot_order(item.entry for item in found if item.entry is not None and item.bootable)), None)


def belongs_to(item: Found, running: Running) -> bool:
    """Whether a file may be, or share its clusters with, the image that runs: then it is never touched."""
    return version_of(item.name) == running.version or item.root_hash == running.root_hash


def own_entries(found: Iterable[Found], running: Running) -> list[Entry]:
    """Entries that boot the running version. More than one: a power cut fell into a rename, and they are one file."""
    return [
        item.entry
        for item in found
        if item.entry is not None and item.bootable and item.entry.version == running.version
    ]


def removable(found: Iterable[Found], running: Running) -> tuple[str, ...]:
    """Names of what must be gone before the inactive slot is written: every entry of ours but the running version's.

    Raises EdgesealError unless the running version is confirmed and its entry boots.
    """
    items = tuple(found)
    own = own_entries(items, running)
    if not own:
        raise EdgesealError(f"version {running.version} runs, and no boot entry of it is on the ESP")
    if not any(entry.confirmed for entry in own):
        raise EdgesealError(f"version {running.version} runs on trial: the other slot is still needed")
    return tuple(sorted(item.name for item in items if is_ours(item.name) and not belongs_to(item, running)))


def judge(found: Iterable[Found], running: Running, trial: Trial | None) -> Situation:
    """What happened, and so what to do next. trial: as journalled. Called at every start; it decides nothing new."""
    items = tuple(found)
    own = own_entries(items, running)
    if not own:
        return EntryLost()
    if trial is None or runs(trial, running):
        return _of_running(own, trial)
    if running.slot == trial.slot:
        return FellBack(f"version {running.version} runs from slot {trial.slot}, which was the update's")
    if running.version == trial.version:
        return FellBack(f"version {trial.version} runs already, from slot {running.slot}")
    if not any(entry.confirmed for entry in own):
        return FellBack(f"version {running.version} runs on trial, from slot {running.slot}")
    return _of_other(items, running, trial)


def runs(trial: Trial, running: Running) -> bool:
    """Whether the journalled update is what this boot runs."""
    return (running.version, running.slot) == (trial.version, trial.slot)


def _of_running(own: list[Entry], trial: Trial | None) -> Situation:
    if any(entry.confirmed for entry in own):
        return Quiet() if trial is None else Confirmed()
    return OnTrial(max(entry.left or 0 for entry in own))


def _of_other(items: tuple[Found, ...], running: Running, trial: Trial) -> Situation:
    """The running version is another, confirmed one."""
    if trial.step == "decided":
        return MustStage()
    there = [item.entry for item in items if item.bootable and item.entry and item.entry.version == trial.version]
    if not there:
        return MustActivate()
    best = boot_order(there)[0]
    if best.left == 0:
        return FellBack(f"version {trial.version} was booted {best.done} times and never judged good")
    if trial.step == "staged":
        return MustActivate()
    if best.left is None:
        return FellBack(f"version {running.version} was booted, although version {trial.version} is confirmed")
    return MustReboot(best.left)
