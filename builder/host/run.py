"""The one door of the builder to other programs."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.core.errors import EdgesealError

_KEPT = ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "PIP_CERT", "http_proxy", "https_proxy", "no_proxy")


def run(
    command: Sequence[str | Path],
    *,
    reason: str,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    hint: str | None = None,
    cwd: Path | None = None,
) -> bytes:
    """Run a program to its end and return its standard output.

    reason: why, as an infinitive clause; it becomes the error message.
    environment: the whole environment; by default a few variables of ours with LC_ALL=C.UTF-8.
    The umask is 022, whatever the user's: what tools write must not depend on it.
    Raises EdgesealError when the program is missing or exits non-zero.
    """
    words = [str(word) for word in command]
    if environment is None:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C.UTF-8"}
    try:
        result = subprocess.run(
            words, input=stdin, capture_output=True, env=dict(environment), cwd=cwd, check=False, umask=0o022
        )
    except FileNotFoundError as error:
        raise EdgesealError(
            f"cannot {reason}: {words[0]} is not installed", hint=hint or f"install the package that has {words[0]}"
        ) from error
    if result.returncode != 0:
        said = (result.stderr or result.stdout).decode(errors="replace").strip().splitlines()
        told = said[-1] if said else "it said nothing"
        raise EdgesealError(
            f"cannot {reason}: {words[0]} exited {result.returncode}: {told}",
            hint=hint or f"rerun it by hand: {shlex.join(words)[:2000]}",
        )
    return result.stdout
