"""A VLAN link: the kernel's own where it has 802.1Q; on a kernel without, two small BPF programs that do the same.

The kernel reads and writes the tags in both cases. On receive, a frame of the parent with the tag loses it and goes on
as one of the link; every other tagged frame stays with the parent, where the kernel gives it to no protocol. On
transmit, a frame of the link gets the tag and leaves by the parent.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import subprocess

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _LINK_CREATE = 5, 28
_SCHED_CLS, _INGRESS, _EGRESS = 3, 46, 47
_VLAN_PUSH, _VLAN_POP, _REDIRECT = 18, 19, 23
_TO_INGRESS = 1
_VLAN_PRESENT, _VLAN_TCI = 20, 24  # struct __sk_buff
_MOV_REG, _MOV, _LOAD_WORD, _AND, _JUMP_NOT_EQUAL, _CALL, _EXIT = 0xBF, 0xB7, 0x61, 0x57, 0x55, 0x85, 0x95


def add_vlan(parent: str, name: str, tag: int) -> list[int]:
    """Make the link `name`, not yet up, with the parent's MAC. Gives what must stay open as long as it is to work."""
    words = ["ip", "link", "add", "link", parent, "name", name, "type", "vlan", "id", str(tag)]
    if subprocess.run(words, capture_output=True).returncode == 0:
        return []
    for line in (
        f"ip link add {name} type veth peer name {name}-end",
        f"ip link set {name} address {mac_of(parent)}",
        f"ip link set {name}-end up",
    ):
        subprocess.run(line.split(), check=True)
    inside, outside = socket.if_nametoindex(name), socket.if_nametoindex(parent)
    return [
        *_attach(_untag(tag, inside), outside, _INGRESS),
        *_attach(_add_tag(tag, outside), inside, _EGRESS),
    ]


def _untag(tag: int, target: int) -> bytes:
    return b"".join(
        [
            _step(_MOV_REG, target=6, source=1),
            _step(_LOAD_WORD, target=2, source=6, offset=_VLAN_PRESENT),
            _step(_JUMP_NOT_EQUAL, target=2, offset=9, value=1),
            _step(_LOAD_WORD, target=2, source=6, offset=_VLAN_TCI),
            _step(_AND, target=2, value=0xFFF),
            _step(_JUMP_NOT_EQUAL, target=2, offset=6, value=tag),
            _step(_MOV_REG, target=1, source=6),
            _step(_CALL, value=_VLAN_POP),
            *_redirect(target, _TO_INGRESS),
            _step(_MOV, target=0, value=-1),  # TCX_NEXT: as if this program were not there
            _step(_EXIT),
        ]
    )


def _add_tag(tag: int, target: int) -> bytes:
    return b"".join(
        [
            _step(_MOV, target=2, value=socket.htons(0x8100)),
            _step(_MOV, target=3, value=tag),
            _step(_CALL, value=_VLAN_PUSH),
            *_redirect(target, 0),
        ]
    )


def _redirect(target: int, flags: int) -> list[bytes]:
    return [
        _step(_MOV, target=1, value=target),
        _step(_MOV, target=2, value=flags),
        _step(_CALL, value=_REDIRECT),
        _step(_EXIT),
    ]


def _step(code: int, *, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def _attach(program: bytes, interface: int, side: int) -> list[int]:
    steps, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(1 << 14)
    places = (ctypes.addressof(steps), ctypes.addressof(licence), 1, len(log), ctypes.addressof(log))
    loaded = _bpf(_PROG_LOAD, struct.pack("=IIQQIIQ", _SCHED_CLS, len(program) // 8, *places), log)
    return [loaded, _bpf(_LINK_CREATE, struct.pack("=IIII", loaded, interface, side, 0), log)]


def _bpf(command: int, attributes: bytes, log: ctypes.Array[ctypes.c_char]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    number: int = libc.syscall(_SYSCALL[platform.machine()], command, ctypes.byref(held), 128)
    if number < 0:
        raise OSError(ctypes.get_errno(), f"bpf {command}: {os.strerror(ctypes.get_errno())}: {log.value.decode()}")
    return number


def mac_of(name: str) -> str:
    """The link's address, as text."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as used:
        used.bind((name, 0))
        return str(used.getsockname()[4].hex(":"))
