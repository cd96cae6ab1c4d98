"""A new certificate is tried on ourselves before anybody else sees it: a handshake in memory, both sides ours.

The server's side judges the client's certificate exactly as a broker with the site's CA does: chain, purpose, strength,
dates, and that the key belongs to it. Nothing is written again that OpenSSL does better.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from appliance.core.errors import VerificationError
from appliance.uplink.tls import Identity, tls_context

_ROUNDS = 10


def rehearse(identity: Identity, ca: Path, *, check_times: bool) -> None:
    """Raises VerificationError, with the reason, when a broker that trusts `ca` would not take `identity`."""
    client = tls_context(ca, identity, check_times=check_times)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # the broker is played by ourselves
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.set_ciphers("DEFAULT:@SECLEVEL=2")
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags = client.verify_flags
    server.load_verify_locations(cafile=ca)
    server.load_cert_chain(identity.certificate, identity.key)
    try:
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        raise VerificationError(f"the site's CA does not vouch for it: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise VerificationError(f"it cannot be used: {error.reason}") from error


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(_ROUNDS):
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
        if not sides:
            return
    raise VerificationError("it cannot be used: the handshake does not end")
