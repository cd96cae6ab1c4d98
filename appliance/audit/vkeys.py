"""The public keys of the log, in a file beside its checkpoint: `vkey`. How a site gets it: docs/adr/0029."""

from __future__ import annotations

from pathlib import Path

from appliance.audit.keyring import Keyring
from appliance.audit.signing import TpmSigner
from appliance.core.durable import write_durable

NAME = "vkey"


def export_vkeys(log: Path, keys: Keyring, tpm: TpmSigner | None) -> None:
    """One key per line: the log's, that of epoch 1 (in a new log), the TPM's where there is one. Raises OSError."""
    path = log / NAME
    lines = _lines(path) if path.exists() else []
    if lines[:1] != [keys.vkeys[0]]:
        lines = list(keys.vkeys) if keys.epoch == 1 else [keys.vkeys[0]]
    if tpm is not None and tpm.vkey not in lines:
        lines.append(tpm.vkey)
    data = "".join(f"{line}\n" for line in lines).encode()
    if not path.exists() or path.read_bytes() != data:
        write_durable(path, data)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
