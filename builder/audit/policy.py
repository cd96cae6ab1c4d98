"""Whose signatures make a checkpoint good enough. Spec: c2sp.org/tlog-policy. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from appliance.core.errors import DecodeError, InputError, Place
from appliance.formats.signed_note import COSIGNATURE, VerifierKey, decode_vkey

MAX_POLICY_BYTES = 64 << 10
_NONE = "none"
_BAD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Group:
    """Witnesses when at least `needed` of `members` do; members are names of witnesses and groups."""

    needed: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """logs: keys, any of which may sign. witnesses: name -> key. quorum: name of a witness or group; None: nobody."""

    logs: tuple[VerifierKey, ...]
    witnesses: dict[str, VerifierKey]
    groups: dict[str, Group]
    quorum: str | None

    def is_met(self, cosigners: Collection[VerifierKey]) -> bool:
        """Whether these keys, each with a verified cosignature, are a quorum."""
        return self.quorum is None or self._witnessed(self.quorum, cosigners)

    def missing(self, cosigners: Collection[VerifierKey]) -> str:
        """The quorum in words, with who is there."""
        there = sorted(name for name, key in self.witnesses.items() if key in cosigners)
        return f"{self._words(self.quorum or _NONE)}; there: {', '.join(there) or 'nobody'}"

    def _witnessed(self, name: str, cosigners: Collection[VerifierKey]) -> bool:
        if name in self.witnesses:
            return self.witnesses[name] in cosigners
        group = self.groups[name]
        return sum(self._witnessed(member, cosigners) for member in group.members) >= group.needed

    def _words(self, name: str) -> str:
        if name not in self.groups:
            return name
        group = self.groups[name]
        return f"{group.needed} of ({', '.join(self._words(member) for member in group.members)})"


def witnesses_needed(keys: Iterable[VerifierKey]) -> Policy:
    """Each of these witnesses must have cosigned; the names are the keys'."""
    witnesses = {f"{key.name}+{key.key_id.hex()}": key for key in keys}
    if not witnesses:
        return Policy((), {}, {}, None)
    return Policy((), witnesses, {"all": Group(len(witnesses), tuple(witnesses))}, "all")


def read_policy(data: bytes, *, file: str) -> Policy:
    """Raises InputError with the line."""
    if len(data) > MAX_POLICY_BYTES:
        raise InputError(f"a policy has at most {MAX_POLICY_BYTES} bytes", place=Place(file))
    reader = _Reader()
    text = data.decode("utf-8", "surrogateescape")  # names are opaque octets
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            reader.line(line)
        except DecodeError as error:
            raise InputError(error.message, place=Place(file, number)) from error
    if not reader.has_quorum:
        raise InputError("there is no quorum line", place=Place(file), hint="`quorum none` asks for no witness")
    return Policy(tuple(reader.logs), reader.witnesses, reader.groups, reader.quorum)


class _Reader:
    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[str, VerifierKey] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self.has_quorum = False
        self._grouped: set[str] = set()

    def line(self, line: str) -> None:
        if _BAD.search(line):
            raise DecodeError("a control character")
        words = [word for word in re.split(r"[ \t]+", line) if word]
        if not words or words[0].startswith("#"):
            return
        if words[0] == "log" and len(words) in (2, 3):
            self._log(words[1])
        elif words[0] == "witness" and len(words) in (3, 4):
            self._witness(words[1], words[2])
        elif words[0] == "group" and len(words) >= 4:
            self._group(words[1], words[2], tuple(words[3:]))
        elif words[0] == "quorum" and len(words) == 2:
            self._quorum(words[1])
        else:
            raise DecodeError("not a line of log, witness, group or quorum with their words")

    def _log(self, vkey: str) -> None:
        key = decode_vkey(vkey)
        if key.kind == COSIGNATURE:
            raise DecodeError(f"the key of log {key.name} is one of a witness")
        if key.key in [other.key for other in self.logs]:
            raise DecodeError(f"the key of log {key.name} is there twice")
        self.logs.append(key)

    def _witness(self, name: str, vkey: str) -> None:
        key = decode_vkey(vkey)
        if key.kind != COSIGNATURE:
            raise DecodeError(f"the key of witness {name} is not one for cosignatures (type 0x04)")
        if key.key in [other.key for other in self.witnesses.values()]:
            raise DecodeError(f"the key of witness {name} is there twice")
        self.witnesses[self._new(name)] = key

    def _group(self, name: str, threshold: str, members: tuple[str, ...]) -> None:
        for member in members:
            if member not in self.witnesses and member not in self.groups:
                raise DecodeError(f"group {name}: {member} is not defined before")
            if member in self._grouped:
                raise DecodeError(f"group {name}: {member} is a member already")
            self._grouped.add(member)
        words = {"any": 1, "all": len(members)}
        needed = words.get(threshold, int(threshold) if re.fullmatch("[1-9][0-9]{0,3}", threshold) else 0)
        if not 1 <= needed <= len(members):
            raise DecodeError(f"group {name}: {threshold} of {len(members)} members cannot be asked for")
        self.groups[self._new(name)] = Group(needed, members)

    def _quorum(self, name: str) -> None:
        if self.has_quorum:
            raise DecodeError("a second quorum line")
        if name not in (_NONE, *self.witnesses, *self.groups):
            raise DecodeError(f"quorum: {name} is not defined before")
        self.has_quorum, self.quorum = True, None if name == _NONE else name

    def _new(self, name: str) -> str:
        if name == _NONE or name in self.witnesses or name in self.groups:
            raise DecodeError(f"the name {name} is taken")
        return name
