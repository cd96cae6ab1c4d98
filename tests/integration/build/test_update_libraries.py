"""What edgeseal-update imports, in the image: its Python, Debian's cryptography, the wheels with parts cut away."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from builder.host.sandbox import Sandbox
from builder.host.toolstree import tools_tree
from tests.integration.build.conftest import GROUP

pytestmark = pytest.mark.xdist_group(GROUP)

ENVIRONMENT = {"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"}  # as systemd's manager sets it for every service

VERIFY = """
import sys
from pathlib import Path
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root
for path in sys.argv[1:]:
    root = Metadata[Root].from_bytes(Path(path).read_bytes())
    try:
        root.verify_delegate("root", root)
        print("trusted")
    except UnsignedMetadataError as error:
        print(f"refused: {error}")
"""
IMPORTS = "import sys, tuf.ngclient, urllib3, appliance.update.client, appliance.update.http, cryptography;" + (
    "print(sys.version_info[:2], cryptography.__version__.split('.')[0])"
)


@pytest.fixture(scope="module")
def image_python(virtual: Path, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """The image's root, unpacked, as a place to run its Python in."""
    root = tmp_path_factory.mktemp("image") / "root"
    words: list[str | Path] = ["fsck.erofs", f"--extract={root}", "--no-preserve", virtual / "root.erofs"]
    tools_tree().run(words, reason="unpack the root", writable=[root.parent], binds={virtual: None})
    return Sandbox(root=root, epoch=0)


def test_the_libraries_can_be_imported(image_python: Sandbox) -> None:
    said = image_python.run(["python3", "-I", "-c", IMPORTS], reason="import", environment=ENVIRONMENT)
    assert said == b"(3, 13) 43\n"


def test_every_kind_of_key_is_verified(image_python: Sandbox, tmp_path: Path) -> None:
    """The builder signs with another version of cryptography than the device verifies with."""
    signers = [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa(), CryptoSigner.generate_rsa()]
    root = Root(expires=datetime(2031, 1, 1, tzinfo=UTC))
    for signer in signers:
        root.add_key(signer.public_key, "root")
    root.roles["root"].threshold = 3
    signed = Metadata(root)
    for signer in signers:
        signed.sign(signer, append=True)
    signed.to_file(str(tmp_path / "good.json"))
    signed.signatures[signers[1].public_key.keyid].signature = "30" + "00" * 70
    signed.to_file(str(tmp_path / "bad.json"))
    command: list[str | Path] = ["python3", "-I", "-c", VERIFY, tmp_path / "good.json", tmp_path / "bad.json"]
    said = image_python.run(command, reason="verify", environment=ENVIRONMENT, binds={tmp_path: None})
    assert said.decode().splitlines() == ["trusted", "refused: root was signed by 2/3 keys"]
