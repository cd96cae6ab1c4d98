"""Units as systemd reads them: precedence, drop-ins, resets, masks, instances, and what a boot pulls in."""

from __future__ import annotations

import pytest

from builder.review.units import UnitSet, listening

LIB = "/usr/lib/systemd/system"
ETC = "/etc/systemd/system"


def units(files: dict[str, str], links: dict[str, str] | None = None) -> UnitSet:
    return UnitSet(files, links or {})


def test_etc_wins_over_usr_lib() -> None:
    found = units({f"{LIB}/a.service": "[Service]\nUser=x\n", f"{ETC}/a.service": "[Service]\nUser=y\n"})
    unit = found.load("a.service")
    assert unit is not None
    assert unit.last("Service", "User") == "y"


def test_drop_ins_are_applied_by_file_name_and_an_empty_value_resets() -> None:
    found = units(
        {
            f"{LIB}/a.service": "[Service]\nExecStart=/one\nCapabilityBoundingSet=CAP_CHOWN \\\n  CAP_KILL\n",
            f"{LIB}/a.service.d/20-b.conf": "[Service]\nExecStart=\nExecStart=/two\n",
            f"{ETC}/a.service.d/10-a.conf": "[Service]\nExecStart=/lost\n",
            f"{LIB}/service.d/90-all.conf": "[Service]\nNoNewPrivileges=yes\n",
        }
    )
    unit = found.load("a.service")
    assert unit is not None
    assert unit.values("Service", "ExecStart") == ("/two",)
    assert unit.words("Service", "CapabilityBoundingSet") == ["CAP_CHOWN", "CAP_KILL"]
    assert unit.last("Service", "NoNewPrivileges") == "yes"


def test_a_drop_in_of_etc_replaces_the_same_name_of_usr_lib() -> None:
    found = units(
        {
            f"{LIB}/a.service": "",
            f"{LIB}/a.service.d/x.conf": "[Service]\nUser=lib\n",
            f"{ETC}/a.service.d/x.conf": "[Service]\nUser=etc\n",
        }
    )
    unit = found.load("a.service")
    assert unit is not None
    assert unit.values("Service", "User") == ("etc",)


def test_comments_and_continuations() -> None:
    unit = units({f"{LIB}/a.service": "# c\n; c\n[Service]\nExecStart=/x \\\n# in between\n  y\n"}).load("a.service")
    assert unit is not None
    assert unit.values("Service", "ExecStart") == ("/x  y",)


@pytest.mark.parametrize(
    ("files", "links"),
    [
        ({f"{LIB}/a.service": "[Service]\n"}, {f"{ETC}/a.service": "/dev/null"}),
        ({f"{LIB}/a.service": "[Service]\n", f"{ETC}/a.service": ""}, {}),
    ],
)
def test_masked(files: dict[str, str], links: dict[str, str]) -> None:
    found = units(files, links)
    assert found.masked() == ["a.service"]
    assert found.load("a.service") is None


def test_what_a_boot_starts() -> None:
    found = units(
        {
            f"{LIB}/multi-user.target": "[Unit]\nRequires=basic.target\n",
            f"{LIB}/basic.target": "[Unit]\nWants=a.service missing.service\n",
            f"{LIB}/sockets.target": "",
            f"{LIB}/a.service": "",
            f"{LIB}/b.service": "",
            f"{LIB}/c.socket": "[Socket]\nListenStream=/run/c\n",
            f"{LIB}/c.service": "",
            f"{LIB}/d.timer": "[Timer]\nUnit=e.service\n",
            f"{LIB}/e.service": "",
            f"{LIB}/f@.service": "[Unit]\nWants=g@%i.service\n",
            f"{LIB}/g@.service": "",
            f"{LIB}/never.service": "",
            f"{LIB}/masked.service": "",
        },
        {
            f"{LIB}/default.target": "multi-user.target",
            f"{ETC}/multi-user.target.wants/b.service": "../../../../usr/lib/systemd/system/b.service",
            f"{ETC}/multi-user.target.wants/f@one.service": "/usr/lib/systemd/system/f@.service",
            f"{ETC}/multi-user.target.wants/masked.service": "/usr/lib/systemd/system/masked.service",
            f"{ETC}/masked.service": "/dev/null",
            f"{LIB}/sockets.target.wants/c.socket": "../c.socket",
            f"{LIB}/multi-user.target.requires/d.timer": "../d.timer",
        },
    )
    assert found.started_at_boot() == {
        "a.service": "basic.target",
        "b.service": "multi-user.target",
        "basic.target": "boot",
        "c.service": "c.socket",
        "c.socket": "sockets.target",
        "d.timer": "multi-user.target",
        "default.target": "boot",
        "e.service": "d.timer",
        "f@one.service": "multi-user.target",
        "g@one.service": "f@one.service",
        "multi-user.target": "default.target",
        "sockets.target": "boot",
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ListenStream=/run/x.sock", ("stream", "/run/x.sock", "unix")),
        ("ListenStream=@abstract", ("stream", "@abstract", "unix")),
        ("ListenSequentialPacket=%t/x", ("sequentialpacket", "%t/x", "unix")),
        ("ListenStream=8080", ("stream", "8080", "inet")),
        ("ListenStream=127.0.0.1:80", ("stream", "127.0.0.1:80", "inet")),
        ("ListenDatagram=[::]:53", ("datagram", "[::]:53", "inet")),
        ("ListenStream=vsock:2:1", ("stream", "vsock:2:1", "vsock")),
        ("ListenNetlink=route 1", ("netlink", "route 1", "netlink")),
        ("ListenFIFO=/run/f", ("fifo", "/run/f", "fifo")),
    ],
)
def test_sockets(line: str, expected: tuple[str, str, str]) -> None:
    unit = units({f"{LIB}/a.socket": f"[Socket]\n{line}\n"}).load("a.socket")
    assert unit is not None
    assert list(listening(unit)) == [expected]


def test_links_that_go_round_end() -> None:
    assert units({}, {f"{LIB}/a.service": "b.service", f"{LIB}/b.service": "a.service"}).load("a.service") is None
