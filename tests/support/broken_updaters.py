"""Updaters that are wrong in one way each. The power-cut replay must find every one of them."""

from __future__ import annotations

from appliance.update.entries import Entry, Running
from appliance.update.esp import install_entry, list_entries
from tests.support.blocklog import Barrier, Write
from tests.support.update_disk import Served, TinyRelease
from tests.support.update_story import TRIES, Device


class SlotFirst(Device):
    """Writes the slot while an entry still names what is in it."""

    def clear(self, running: Running, target: TinyRelease) -> None:
        """Later."""

    def install(self, running: Running, target: TinyRelease) -> None:
        super().clear(running, target)
        super().install(running, target)


class NoSync(Device):
    """Leaves it to the kernel when things reach the disk."""

    def install(self, running: Running, target: TinyRelease) -> None:
        before = len(self.log)
        super().install(running, target)
        self.log[before:] = [event for event in self.log[before:] if not isinstance(event, Barrier)]


class HeadFirst(Device):
    """Makes the image bootable with its first write."""

    def install(self, running: Running, target: TinyRelease) -> None:
        name = Entry(target.version, TRIES, 0).name
        if name in self.files.names():
            self.files.remove(name)
        self.files.create(name)
        self.files.write(name, 0, target.uki)
        self.files.sync(name)


class EntryFirst(Device):
    """Puts the entry in place before its slot is written."""

    def write_slot(self, running: Running, target: TinyRelease) -> None:
        entry = Entry(target.version, TRIES, 0)
        install_entry(self.files, entry, target.content, Served(target), running, root_hash=target.root_hash)
        super().write_slot(running, target)


class Textbook(Device):
    """Writes a temporary file, syncs, renames, syncs; cleans temporary files up, one name at a time."""

    def clear(self, running: Running, target: TinyRelease) -> None:
        self._clean()
        for item in list_entries(self.files):
            if item.entry is not None and item.entry.version != running.version:
                self.files.remove(item.name)
        self.files.sync_names()

    def install(self, running: Running, target: TinyRelease) -> None:
        self._clean()
        name, temporary = Entry(target.version, TRIES, 0).name, f".edgeseal_{target.version}.tmp"
        if name in self.files.names():
            self.files.remove(name)
        self.files.create(temporary)
        self.files.write(temporary, 0, target.uki)
        self.files.sync(temporary)
        self.files.rename(temporary, name)
        self.files.sync_names()
        self.files.sync(name)

    def _clean(self) -> None:
        for name in self.files.names():
            if name.endswith(".tmp"):
                self.files.remove(name)
        self.files.sync_names()


class InPlace(Device):
    """Writes over the entry that runs."""

    def install(self, running: Running, target: TinyRelease) -> None:
        self.files.write(Entry(running.version).name, 0, target.uki)
        self.files.sync(Entry(running.version).name)


class TableToo(Device):
    """Also writes the partition table anew, entries before header, as a partitioning tool does."""

    def write_slot(self, running: Running, target: TinyRelease) -> None:
        super().write_slot(running, target)
        table = bytearray(self.disk[1024 : 1024 + 512])
        table[56:58] = b"E\0"  # a label; the checksum in the header is then another one
        self.log += [Write(1024, bytes(table)), Write(512, bytes(self.disk[512:1024])), Barrier()]
