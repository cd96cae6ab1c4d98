"""A new key and the request for its certificate: the only module that talks to cryptography, and a program of its own.

Run as `python3 -I -m appliance.uplink.identity DEVICE` it writes both to standard output, a pipe, and ends: the library
costs more memory than the whole spool, about once in the life of a certificate.
"""

from __future__ import annotations

import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec


def make_identity(device: str) -> bytes:
    """PEM: a P-256 key in PKCS#8, its public half, and a PKCS#10 request (RFC 2986) for the common name `device`."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return private + public + request.public_bytes(form.Encoding.PEM)


if __name__ == "__main__":
    sys.stdout.buffer.write(make_identity(sys.argv[1]))
