"""What each key may sign. Reference: docs/reference/keys.md."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """One key per duty; the value is the file name and the name in messages.

    PK, KEK: own the Secure Boot variables. DB: signs what the firmware starts, the verity root hash and the IPE policy
    (the kernel trusts the db through its platform keyring). PCR: signs the expected measurements to which the data
    partition is bound. RECOVERY: the owner's key; its public half encrypts the recovery key of a data partition.
    PROVENANCE: signs the statement how an image was built.
    """

    PK = "pk"
    KEK = "kek"
    DB = "db"
    PCR = "pcr"
    RECOVERY = "recovery"
    PROVENANCE = "provenance"

    @property
    def key_bits(self) -> int:
        """RSA modulus.

        2048 where firmware or a TPM verifies: many UEFI implementations and every TPM 2.0 profile stop there.
        3072 where only software of ours does, and where a ciphertext must outlive the device.
        """
        return 3072 if self in (Role.RECOVERY, Role.PROVENANCE) else 2048

    @property
    def signs(self) -> bool:
        """Whether the private half is used to sign; that of RECOVERY only decrypts."""
        return self is not Role.RECOVERY
