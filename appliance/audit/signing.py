"""Who signs a checkpoint: the log's key and the epoch's always, the TPM's where it is asked to."""

from __future__ import annotations

import hashlib

from appliance.audit.keyring import Keyring
from appliance.audit.keys import ecdsa_signature, p256_public
from appliance.formats.signed_note import ECDSA, VerifierKey, encode_vkey, sign_note
from appliance.machine.tpm import Tpm
from appliance.machine.tpm_signing import make_key, sign_digest

PURPOSE = "edgeseal audit log, version 1"


class TpmSigner:
    """A key in the TPM, under the name ORIGIN/tpm."""

    def __init__(self, tpm: Tpm, origin: str) -> None:
        """Takes about a second on a real TPM. Raises EdgesealError."""
        self._tpm = tpm
        self._key = make_key(tpm, PURPOSE)
        self.verifier = VerifierKey(f"{origin}/tpm", ECDSA, p256_public(self._key.x, self._key.y))

    @property
    def vkey(self) -> str:
        """For who verifies."""
        return encode_vkey(self.verifier)

    def sign(self, message: bytes) -> bytes:
        """DER. Raises EdgesealError."""
        return ecdsa_signature(*sign_digest(self._tpm, self._key, hashlib.sha256(message).digest()))


class Signing:
    """What the store calls to sign. A TPM takes a while: it signs only the next checkpoint after `ask_tpm`."""

    def __init__(self, keys: Keyring, tpm: TpmSigner | None) -> None:
        self._keys = keys
        self.tpm = tpm
        self._asked = False

    def ask_tpm(self) -> None:
        """The TPM, where there is one, signs the next checkpoint too."""
        self._asked = self.tpm is not None

    def __call__(self, text: str) -> bytes:
        """The signed note of a checkpoint's text. Raises EdgesealError when the TPM fails."""
        signers = self._keys.signers()
        if self._asked and self.tpm is not None:
            self._asked = False
            signers.append((self.tpm.verifier, self.tpm.sign))
        return sign_note(text, signers)
