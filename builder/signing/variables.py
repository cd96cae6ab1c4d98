"""Our keys in the firmware: a variable store for the emulator, update files for real machines.

The only module that uses virt-firmware. No clock: the time in a variable is when its newest certificate was made, so
keys made later replace earlier ones and the bytes depend on template and keys alone.
"""

from __future__ import annotations

import struct
from datetime import datetime
from uuid import UUID

from virt.firmware.efi.efivar import EfiVar, EfiVarList
from virt.firmware.efi.ucs16 import from_string
from virt.firmware.varstore.edk2 import Edk2VarStore

from appliance.core.errors import InputError
from builder.signing.efivars import (
    GLOBAL_VARIABLE,
    IMAGE_SECURITY_DATABASE,
    authenticated_variable,
    signature_list,
)
from builder.signing.keyset import KeySet, PublicKeys
from builder.signing.roles import Role

_VARIABLES: tuple[tuple[str, UUID, Role, Role], ...] = (
    ("PK", GLOBAL_VARIABLE, Role.PK, Role.PK),
    ("KEK", GLOBAL_VARIABLE, Role.KEK, Role.PK),
    ("db", IMAGE_SECURITY_DATABASE, Role.DB, Role.KEK),
)
"""Name, vendor, whose certificate it holds, who may change it."""

_SECURE_BOOT_VARIABLES = ("PK", "KEK", "db", "dbx", "SecureBootEnable", "CustomMode", "SecureBoot")


def enroll(template: bytes, keys: KeySet | PublicKeys) -> bytes:
    """An edk2 variable store (OVMF_VARS*.fd, AAVMF_VARS*.fd) with exactly our PK, KEK and db, and Secure Boot on.

    Whatever Secure Boot keys the template has are dropped. The size stays the template's.
    Raises InputError when the template holds no variable store.
    """
    store = _open(template)
    variables: EfiVarList = store.get_varlist()
    for name in _SECURE_BOOT_VARIABLES:
        variables.pop(name, None)
    time = _newest(keys)
    for name, _, role, _ in _VARIABLES:
        variable = EfiVar(from_string(name), data=signature_list(keys.certificate(role)))
        variable.time = time
        variables[name] = variable
    variables.set_bool("SecureBootEnable", True)
    variables.set_bool("CustomMode", False)
    try:
        return bytes(store.bytes_varstore(variables))
    except SystemExit as error:
        raise InputError("the firmware's variable store is too small for the keys", hint=_HINT) from error


def read_enrolled(store: bytes) -> dict[str, list[bytes]]:
    """DER certificates by Secure Boot variable. Raises InputError when `store` is no variable store."""
    variables = _open(store).get_varlist()
    return {
        name: [bytes(entry["data"]) for entries in variables[name].sigdb for entry in entries]
        for name in ("PK", "KEK", "db", "dbx")
        if name in variables
    }


def enrollment_files(keys: KeySet) -> dict[str, bytes]:
    """PK.auth, KEK.auth, db.auth: authenticated updates, as systemd-boot enrols them from loader/keys/NAME/.

    Each is signed by the key above it. Raises InputError when the private PK or KEK is not here.
    """
    time = _newest(keys)
    return {
        f"{name}.auth": authenticated_variable(
            name, vendor, signature_list(keys.certificate(role)), time=time, signer=keys.signer(owner)
        )
        for name, vendor, role, owner in _VARIABLES
    }


def _newest(keys: KeySet | PublicKeys) -> datetime:
    return max(keys.certificate(role).not_valid_before_utc for _, _, role, _ in _VARIABLES)


_HINT = "take OVMF_VARS_4M.fd or AAVMF_VARS.fd of Debian trixie"


class _Store(Edk2VarStore):  # type: ignore[misc]
    """virt-firmware's reader over bytes instead of a file."""

    def __init__(self, template: bytes) -> None:
        self.filename = "template"
        self.filedata = template
        self.start: int
        self.end: int
        self.parse_volume()


def _open(template: bytes) -> _Store:
    try:
        if _Store.find_nvdata(template) is not None:
            store = _Store(template)
            if store.end <= len(template):
                return store
    except (SystemExit, struct.error):  # its way to refuse
        pass
    raise InputError("the firmware's variable template holds no variable store", hint=_HINT)
