"""Verify the output of a build from the public keys alone: run every check, hide none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import EdgesealError
from builder.host.sandbox import Sandbox
from builder.review.checks import CHECKS
from builder.review.evidence import Evidence, gather
from builder.signing.keyset import PublicKeys


@dataclass(frozen=True)
class Check:
    """One result. detail: what was found, or what is wrong."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """All results, in the order in which the checks ran."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """No check failed."""
        return all(check.ok for check in self.checks)

    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [check.name for check in self.checks if not check.ok]


def verify_directory(
    directory: Path,
    keys: PublicKeys,
    tools: Sandbox,
    *,
    checks: Sequence[tuple[str, Callable[[Evidence], str]]] = CHECKS,
) -> Report:
    """Run every check on `directory`, the output of a build; one failing does not keep the others from running.

    Raises InputError when there is no such directory.
    """
    with gather(directory, keys, tools) as evidence:
        return Report(tuple(_run(name, check, evidence) for name, check in checks))


def _run(name: str, check: Callable[[Evidence], str], evidence: Evidence) -> Check:
    try:
        return Check(name, True, check(evidence))
    except EdgesealError as error:
        return Check(name, False, str(error))
