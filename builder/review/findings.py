"""What a security review would stumble over in a root image. An empty list is what a release is tested for.

Each finding has a rule, a path and a reason. What the design accepts is listed as well, with why it is accepted, so
that an auditor sees that it was seen.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from builder.review.erofs import Node


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHELLS = _words("ash bash busybox csh dash fish ksh ksh93 mksh rbash sh tcsh zsh")
INTERPRETERS = re.compile(r"(perl|python|ruby|lua|luajit|tclsh|node|nodejs|guile|php|gjs|[gmn]?awk)[0-9.]*")
PACKAGE_MANAGERS = _words(
    "apt apt-get apt-cache aptitude dpkg dpkg-deb rpm dnf yum pip pip3 snap flatpak opkg apk conda uv"
)
LOGINS = _words(
    """agetty chsh doas getty login mingetty newgrp passwd pkexec rlogind ssh sshd su sudo sulogin systemd-sulogin-shell
    telnetd run0 machinectl systemd-run"""
)
NETWORK_TOOLS = _words("curl wget nc ncat netcat socat tcpdump telnet ftp rsync nmap scp sftp ssh-keygen")
BUILD_TOOLS = _words("as cc c++ g++ gcc gdb gdbserver ld make objcopy objdump strace ltrace perf bpftool")
CAPABILITIES = tuple(
    """chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
    net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
    sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
    mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore""".split()
)
_PROGRAM_DIRECTORIES = ("/usr/bin/", "/usr/sbin/", "/usr/local/", "/usr/libexec/", "/usr/lib/systemd/", "/opt/")
_NAMED: tuple[tuple[str, frozenset[str]], ...] = (
    ("shell", SHELLS),
    ("package-manager", PACKAGE_MANAGERS),
    ("login", LOGINS),
    ("network-tool", NETWORK_TOOLS),
    ("build-tool", BUILD_TOOLS),
)
_PYTHON = re.compile(r"/usr/bin/python3(\.[0-9]+)?")
_SECRET = re.compile(rb"^-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\r?$", re.MULTILINE)
_NO_TEXT = (".pyc", ".so", ".onnx")


@dataclass(frozen=True)
class Finding:
    """accepted: why the design lives with it, or None."""

    rule: str
    path: str
    detail: str
    accepted: str | None = None


def tree_findings(nodes: Sequence[Node], read: Callable[[str], bytes]) -> Iterator[Finding]:
    """Findings about files. read: contents of a regular file by path."""
    for node in nodes:
        yield from _mode_findings(node)
        yield from _name_findings(node)
        small = stat.S_ISREG(node.mode) and 0 < node.size <= 1 << 20 and not node.path.endswith(_NO_TEXT)
        if small and _SECRET.search(read(node.path)):
            yield Finding("private-key", node.path, "holds a private key")
    yield from _account_findings({node.path: node for node in nodes}, read)


def file_capabilities(node: Node) -> list[str]:
    """Names of the capabilities that running this file grants (capabilities(7), file capabilities)."""
    value = dict(node.xattrs).get("security.capability", b"")
    if len(value) < 20:
        return []
    words = struct.unpack("<5I", value[:20])
    bits = (words[1] | words[2]) | (words[3] | words[4]) << 32
    return [f"cap_{name}" for number, name in enumerate(CAPABILITIES) if bits >> number & 1]


def is_program(node: Node) -> bool:
    """A file or link that stands where programs do."""
    if stat.S_ISLNK(node.mode):
        return node.path.startswith(_PROGRAM_DIRECTORIES[:2])
    return stat.S_ISREG(node.mode) and bool(node.mode & 0o111) and node.path.startswith(_PROGRAM_DIRECTORIES)


def _mode_findings(node: Node) -> Iterator[Finding]:
    mode = stat.S_IMODE(node.mode)
    regular, directory = stat.S_ISREG(node.mode), stat.S_ISDIR(node.mode)
    if regular and mode & stat.S_ISUID:
        yield Finding("setuid", node.path, f"mode {mode:04o}, owner {node.uid}")
    if regular and mode & stat.S_ISGID:
        yield Finding("setgid", node.path, f"mode {mode:04o}, group {node.gid}")
    if not stat.S_ISLNK(node.mode) and mode & stat.S_IWOTH:
        mount = directory and mode & stat.S_ISVTX and node.path in ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
        yield Finding("world-writable", node.path, f"mode {mode:04o}", "mount point" if mount else None)
    if stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
        yield Finding("device-node", node.path, f"device {node.device}")
    if names := file_capabilities(node):
        yield Finding("file-capability", node.path, " ".join(names))
    if (node.uid or node.gid) and node.path.startswith(("/usr", "/etc")):
        yield Finding("foreign-owner", node.path, f"owner {node.uid}:{node.gid}, must be 0:0")


def _name_findings(node: Node) -> Iterator[Finding]:
    if not is_program(node):
        return
    name = node.path.rpartition("/")[2]
    for rule, names in _NAMED:
        if name in names:
            yield Finding(rule, node.path, f"{name} is a {rule.replace('-', ' ')}")
    if INTERPRETERS.fullmatch(name):
        ours = _PYTHON.fullmatch(node.path)
        yield Finding("interpreter", node.path, f"{name} runs scripts", "runs our services, with -I" if ours else None)


def _account_findings(nodes: dict[str, Node], read: Callable[[str], bytes]) -> Iterator[Finding]:
    for path in ("/etc/passwd", "/etc/shadow"):
        for line in _lines(path, nodes, read):
            name, password = (*line.split(":"), "", "")[:2]
            if path == "/etc/passwd" and password == "x":  # noqa: S105
                continue
            if not password.startswith(("!", "*")):
                yield Finding("password", path, f"{name} has {'a' if password else 'an empty'} password")
    for line in _lines("/etc/passwd", nodes, read):
        fields = line.split(":")
        shell = fields[6] if len(fields) > 6 else ""
        if not shell.endswith(("/nologin", "/false")):
            yield Finding("login-shell", "/etc/passwd", f"{fields[0]} has the shell {shell or '(default)'}")
        if len(fields) > 2 and fields[2] == "0" and fields[0] != "root":
            yield Finding("second-root", "/etc/passwd", f"{fields[0]} has uid 0")
    shadow = nodes.get("/etc/shadow")
    if shadow and shadow.mode & 0o077 & ~0o040:
        yield Finding("readable-shadow", "/etc/shadow", f"mode {stat.S_IMODE(shadow.mode):04o}")
    if "".join(_lines("/etc/machine-id", nodes, read)) not in ("", "uninitialized"):
        yield Finding("baked-identity", "/etc/machine-id", "every device would have this machine id")


def _lines(path: str, nodes: dict[str, Node], read: Callable[[str], bytes]) -> list[str]:
    node = nodes.get(path)
    if node is None or not stat.S_ISREG(node.mode):
        return []
    return [line for line in read(path).decode(errors="replace").splitlines() if line.strip()]
