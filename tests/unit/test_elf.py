"""What an ELF file loads, at its start and later."""

from __future__ import annotations

from pathlib import Path

from builder.rootfs.elf import closure, is_elf, missing_libraries, needed
from tests.support.elf import HEXAGON, make_elf


def feature(soname: str, priority: str | None) -> dict[str, object]:
    return {"feature": soname, "soname": [soname, f"{soname}.old"], **({"priority": priority} if priority else {})}


def test_libraries_that_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(make_elf(["libm.so.6", "libc.so.6"]))
    assert is_elf(path)
    assert needed(path) == ("libc.so.6", "libm.so.6")


def test_libraries_that_it_opens_later_count_unless_they_are_only_suggested(tmp_path: Path) -> None:
    path = tmp_path / "systemd"
    path.write_bytes(
        make_elf(
            ["libc.so.6"],
            [
                feature("libmust.so.1", "required"),
                feature("libgood.so.1", "recommended"),
                feature("libplain.so.1", None),
                feature("libtss2-esys.so.0", "suggested"),
                feature("libqrencode.so.4", "suggested"),
            ],
        )
    )
    assert needed(path) == ("libc.so.6", "libgood.so.1", "libmust.so.1", "libplain.so.1")
    assert "libtss2-esys.so.0" in needed(path, optional=["libtss2-"])
    assert "libqrencode.so.4" not in needed(path, optional=["libtss2-"])


def test_other_files_need_nothing(tmp_path: Path) -> None:
    for name, data in (("script", b"#!/bin/sh\n"), ("empty", b""), ("cut", make_elf(["libc.so.6"])[:20])):
        (tmp_path / name).write_bytes(data)
        assert needed(tmp_path / name) == ()
    assert not is_elf(tmp_path / "script")


def test_the_closure_follows_libraries_and_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    for name, names in {
        "program": ["liba.so"],
        "lib/liba.so": ["libb.so", "libmissing.so"],
        "lib/libb.so": ["liba.so"],  # in a circle
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(make_elf(names))

    def find(name: str) -> Path | None:
        return Path("lib", name) if (tmp_path / "lib" / name).exists() else None

    assert closure(["program"], find, lambda path: tmp_path / path) == {"lib/liba.so", "lib/libb.so"}


def test_libraries_that_stand_nowhere(tmp_path: Path) -> None:
    (tmp_path / "libc.so.6").write_bytes(make_elf())
    (tmp_path / "good").write_bytes(make_elf(["libc.so.6"]))
    (tmp_path / "bad").write_bytes(make_elf(["libc.so.6", "libOpenCL.so.1"]))
    (tmp_path / "skeleton.so").write_bytes(make_elf(["libc++.so.1"], machine=HEXAGON))  # for the NPU beside us
    assert missing_libraries(tmp_path, architecture="x86_64") == {"bad": ("libOpenCL.so.1",)}
