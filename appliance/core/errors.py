"""Errors that a person reads. Libraries raise these; only a command line prints them and exits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where bad input stands: a file and, where known, its line (counted from 1)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class EdgesealError(Exception):
    """Something that was asked for could not be done. exit_code 1."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        return self.message if self.place is None else f"{self.place}: {self.message}"


class InputError(EdgesealError):
    """What the user gave is wrong. exit_code 2; nothing was written."""

    exit_code = 2


class DecodeError(InputError):
    """Bytes do not have the shape that their format demands."""


class VerificationError(EdgesealError):
    """Bytes are not what their signature, hash or version says they are."""
