"""What a console said, cleaned, and what it means for a boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from builder.vm.boot_stages import require_hope
from builder.vm.console import Console, clean


def test_escape_sequences_go_and_text_stays() -> None:
    said = b"\x1b[2J\x1b[01;01H[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39medgeseal.target\x1b[0m.\r\n\x1b(B\x1b[m$"
    assert clean(said) == "[  OK  ] Started edgeseal.target.\n$"


def test_bytes_that_are_no_text_do_not_stop_it() -> None:
    assert clean(b"a\xff\x00b") == "a\ufffdb"


def test_waiting_finds_what_is_there_and_ends_when_it_is_not(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    console = Console(log, check=lambda: None)
    assert console.text() == ""
    log.write_text("Linux version 6.12\n")
    assert console.wait_for(r"version (\S+)", within_s=1)[1] == "6.12"
    with pytest.raises(EdgesealError, match=r"^the console says `login:`: not within 0 s$"):
        console.wait_for("login:", within_s=0)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("Kernel panic - not syncing: dm-verity device corrupted", "the kernel panicked: dm-verity device corrupted"),
        ("failed to load Boot0001: Access Denied", "the firmware refused what it was to start: Access Denied"),
        (
            "BdsDxe: No bootable option or device was found.",
            "the firmware found nothing to start: No bootable option or device was found",
        ),
        ("systemd[1]: Freezing execution.", "systemd gave up: Freezing execution"),
    ],
)
def test_a_boot_without_hope_is_recognised(said: str, meaning: str) -> None:
    with pytest.raises(EdgesealError) as hopeless:
        require_hope(f"before\n{said}\nafter")
    assert str(hopeless.value) == meaning


def test_an_ordinary_console_has_hope() -> None:
    require_hope("Linux version 6.12\nWelcome to edgeseal\n")
