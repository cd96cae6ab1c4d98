"""ROLE.crt and ROLE.key: certificates and private keys as PEM files."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from appliance.core.errors import InputError, Place, VerificationError
from builder.signing.certificates import public_key_of
from builder.signing.descriptor import read_private
from builder.signing.roles import Role


def certificate_path(directory: Path, role: Role) -> Path:
    """Where the role's certificate is."""
    return directory / f"{role.value}.crt"


def key_path(directory: Path, role: Role) -> Path:
    """Where the role's private key is, when it is a file."""
    return directory / f"{role.value}.key"


def read_certificate(path: Path, role: Role) -> x509.Certificate:
    """One PEM certificate with an RSA key of the role's size.

    Raises InputError when the file is missing, unreadable, not a certificate, or holds another kind of key.
    """
    place = Place(str(path))
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        bits = public_key_of(certificate).key_size
    except FileNotFoundError as error:
        raise InputError(f"the {role.value} certificate is missing", place=place) from error
    except OSError as error:
        raise InputError(f"the {role.value} certificate cannot be read: {error.strerror}", place=place) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"the {role.value} certificate is not a PEM certificate", place=place) from error
    except VerificationError as error:
        raise InputError(error.message, place=place) from error
    if bits != role.key_bits:
        raise InputError(f"the {role.value} key has {bits} bits instead of {role.key_bits}", place=place)
    return certificate


def read_private_key(path: Path, role: Role, passphrase: str | None) -> rsa.RSAPrivateKey:
    """One PKCS#8 PEM key that only its owner can read.

    passphrase: None when the descriptor names none. Raises InputError when the file is missing, unreadable, open to
    others, not an RSA key, encrypted without a passphrase, or the passphrase is wrong.
    """
    data = read_private(path, what=f"private {role.value} key")
    place = Place(str(path))
    try:
        key = load_pem_private_key(data, None if passphrase is None else passphrase.encode(errors="surrogateescape"))
    except TypeError as error:
        raise _passphrase_error(role, place, given=passphrase is not None) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if b"ENCRYPTED" in data and passphrase is not None:
            raise InputError(f"private {role.value} key: the passphrase is wrong", place=place) from error
        raise InputError(f"private {role.value} key: not a PKCS#8 PEM key", place=place) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InputError(f"private {role.value} key: not an RSA key", place=place)
    return key


def private_key_pem(key: rsa.RSAPrivateKey, passphrase: str | None) -> bytes:
    """PKCS#8 PEM, encrypted when there is a passphrase."""
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        encryption = BestAvailableEncryption(passphrase.encode(errors="surrogateescape"))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _passphrase_error(role: Role, place: Place, *, given: bool) -> InputError:
    if given:
        return InputError(
            f"private {role.value} key: keys.json names a passphrase, but the key is not encrypted", place=place
        )
    return InputError(
        f"private {role.value} key: it is encrypted and keys.json names no passphrase",
        place=place,
        hint='add to its entry: "passphrase": {"environment": "NAME"} or {"file": "PATH"}',
    )
