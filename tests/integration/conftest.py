"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support import softhsm
from tests.support.keys import keys_at


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The PKCS#11 library with both tokens. For the whole process: it reads its configuration only once."""
    store = softhsm.TokenStore(tmp_path_factory.mktemp("softhsm"))
    store.create()
    store.add(softhsm.SIGNING, {"db": load_pem_private_key((keys_at() / "db.key").read_bytes(), password=None)})
    repository = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    store.add(softhsm.REPOSITORY, {"rsa": repository, "ec": ec.generate_private_key(ec.SECP256R1())})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(store.configuration))
        yield softhsm.find_module()
