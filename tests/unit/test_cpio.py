"""The initrd's archive, read back by a reader that shares no code with its writer."""

from __future__ import annotations

import stat

from builder.boot.cpio import write_cpio
from builder.rootfs.entries import Directory, File, RootPlan, Symlink
from tests.support.cpio import Member, read_newc

EPOCH = 1_700_000_000
PLAN: RootPlan = {
    "usr/lib/systemd/systemd": File(content=b"\x7fELF", mode=0o755),
    "init": Symlink("usr/lib/systemd/systemd"),
    "proc": Directory(mode=0o555),
    "etc/machine-id": File(content=b""),
}


def members(plan: RootPlan) -> dict[str, Member]:
    return {member.path: member for member in read_newc(write_cpio(plan, epoch=EPOCH))}


def test_every_path_and_its_parents_in_order() -> None:
    found = list(read_newc(write_cpio(PLAN, epoch=EPOCH)))
    assert [member.path for member in found] == [
        "etc",
        "etc/machine-id",
        "init",
        "proc",
        "usr",
        "usr/lib",
        "usr/lib/systemd",
        "usr/lib/systemd/systemd",
    ]


def test_types_modes_and_contents() -> None:
    found = members(PLAN)
    assert found["init"].data == b"usr/lib/systemd/systemd"
    assert stat.filemode(found["init"].fields["mode"]) == "lrwxrwxrwx"
    assert stat.filemode(found["proc"].fields["mode"]) == "dr-xr-xr-x"
    assert stat.filemode(found["usr"].fields["mode"]) == "drwxr-xr-x"
    assert stat.filemode(found["usr/lib/systemd/systemd"].fields["mode"]) == "-rwxr-xr-x"
    assert found["usr/lib/systemd/systemd"].data == b"\x7fELF"
    assert found["etc/machine-id"].data == b""


def test_nothing_of_this_machine_is_in_the_headers() -> None:
    for number, member in enumerate(members(PLAN).values(), start=1):
        fields = dict(member.fields)
        assert fields.pop("ino") == number
        assert fields.pop("mtime") == EPOCH
        assert fields.pop("nlink") == 1
        del fields["mode"], fields["filesize"]
        assert set(fields.values()) == {0}


def test_the_order_of_a_plan_does_not_matter() -> None:
    turned = dict(reversed(PLAN.items()))
    assert write_cpio(turned, epoch=EPOCH) == write_cpio(PLAN, epoch=EPOCH)
