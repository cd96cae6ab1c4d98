"""Every rule finds its broken twin, and a clean root has no finding."""

from __future__ import annotations

import stat
import struct
from dataclasses import replace

import pytest

from builder.review.erofs import Node
from builder.review.findings import CAPABILITIES, file_capabilities, tree_findings

FILE, DIRECTORY, LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
CONTENTS = {
    "/etc/passwd": b"root:x:0:0::/:/usr/sbin/nologin\n",
    "/etc/shadow": b"root:!*:::::::\n",
    "/etc/machine-id": b"",
}


def node(path: str, mode: int = FILE | 0o644, **changes: object) -> Node:
    size = len(CONTENTS.get(path, b"x"))
    base = Node(path, hash(path), mode, 0, 0, size, 0, None, None, ())
    return replace(base, **changes)  # type: ignore[arg-type]


CLEAN = [
    node("/", DIRECTORY | 0o755),
    node("/bin", LINK | 0o777, target="usr/bin"),
    node("/etc/machine-id"),
    node("/etc/passwd"),
    node("/etc/shadow", FILE | 0o400),
    node("/usr/bin/mount", FILE | 0o755),
    node("/usr/share/doc/bash", FILE | 0o644),
]


def findings(nodes: list[Node], contents: dict[str, bytes] | None = None) -> list[tuple[str, str, bool]]:
    held = CONTENTS | (contents or {})
    found = tree_findings(nodes, lambda path: held.get(path, b"x"))
    return [(finding.rule, finding.path, finding.accepted is not None) for finding in found]


def test_a_clean_root_has_none() -> None:
    assert findings(CLEAN) == []


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (node("/usr/bin/su", FILE | 0o4755), "setuid"),
        (node("/usr/bin/wall", FILE | 0o2755), "setgid"),
        (node("/etc/open", FILE | 0o666), "world-writable"),
        (node("/srv", DIRECTORY | 0o777), "world-writable"),
        (node("/srv", DIRECTORY | 0o1777), "world-writable"),
        (node("/dev/null", stat.S_IFCHR | 0o600, device=(1, 3)), "device-node"),
        (
            node(
                "/usr/bin/p", FILE | 0o755, xattrs=(("security.capability", struct.pack("<5I", 2, 1 << 13, 0, 0, 0)),)
            ),
            "file-capability",
        ),
        (node("/usr/lib/x", uid=33), "foreign-owner"),
        (node("/usr/bin/dash", FILE | 0o755), "shell"),
        (node("/usr/bin/sh", LINK | 0o777, target="dash"), "shell"),
        (node("/usr/bin/perl5.40", FILE | 0o755), "interpreter"),
        (node("/usr/bin/mawk", FILE | 0o755), "interpreter"),
        (node("/opt/x/bin/python3", FILE | 0o755), "interpreter"),
        (node("/usr/bin/dpkg", FILE | 0o755), "package-manager"),
        (node("/usr/sbin/agetty", FILE | 0o755), "login"),
        (node("/usr/bin/curl", FILE | 0o755), "network-tool"),
        (node("/usr/bin/gdb", FILE | 0o755), "build-tool"),
    ],
)
def test_each_rule_on_its_broken_twin(bad: Node, rule: str) -> None:
    assert (rule, bad.path, False) in findings([*CLEAN, bad])


@pytest.mark.parametrize(
    ("path", "data", "rule"),
    [
        ("/etc/x.pem", b"-----BEGIN " + b"PRIVATE KEY-----\nAA\n", "private-key"),
        ("/etc/x.pem", b"text\n-----BEGIN RSA " + b"PRIVATE KEY-----\r\nAA\n", "private-key"),
        ("/etc/passwd", b"root::0:0::/:/usr/sbin/nologin\n", "password"),
        ("/etc/shadow", b"root:$y$j9T$x:::::::\n", "password"),
        ("/etc/shadow", b"root::::::::\n", "password"),
        ("/etc/passwd", b"root:x:0:0::/:/bin/bash\n", "login-shell"),
        ("/etc/passwd", b"root:x:0:0::/:\n", "login-shell"),
        ("/etc/passwd", b"root:x:0:0::/:/usr/sbin/nologin\ntoor:x:0:0::/:/usr/sbin/nologin\n", "second-root"),
        ("/etc/machine-id", b"0123456789abcdef0123456789abcdef\n", "baked-identity"),
    ],
)
def test_contents(path: str, data: bytes, rule: str) -> None:
    nodes = [item for item in CLEAN if item.path != path] + [node(path, size=len(data))]
    assert rule in [found for found, _path, _accepted in findings(nodes, {path: data})]


def test_readable_shadow() -> None:
    nodes = [item for item in CLEAN if item.path != "/etc/shadow"] + [node("/etc/shadow", FILE | 0o644)]
    assert findings(nodes) == [("readable-shadow", "/etc/shadow", False)]


def test_what_is_accepted_is_listed_with_its_reason() -> None:
    nodes = [*CLEAN, node("/usr/bin/python3.13", FILE | 0o755), node("/tmp", DIRECTORY | 0o1777)]
    assert findings(nodes) == [("interpreter", "/usr/bin/python3.13", True), ("world-writable", "/tmp", True)]


def test_capability_names() -> None:
    assert len(CAPABILITIES) == 41
    value = struct.pack("<5I", 0x02000001, 1 << 12 | 1 << 13, 0, 1 << (40 - 32), 0)
    found = file_capabilities(node("/x", xattrs=(("security.capability", value),)))
    assert found == ["cap_net_admin", "cap_net_raw", "cap_checkpoint_restore"]
    assert file_capabilities(node("/x", xattrs=(("security.capability", b"short"),))) == []
