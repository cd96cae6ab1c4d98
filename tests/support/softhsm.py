"""SoftHSM2 as the PKCS#11 token of the tests: it stands for every HSM."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from builder.host.run import run

PIN = "2468"
SIGNING = "edgeseal test"
"""The label of the token that holds the image signing key `db`, and room for release keys."""
REPOSITORY = "edgeseal repository"
"""The label of the token that holds the repository keys `rsa` and `ec`."""
_MODULES = ("usr/lib/softhsm/libsofthsm2.so", "usr/lib/*-linux-gnu/softhsm/libsofthsm2.so")


def find_module() -> Path:
    """The PKCS#11 library."""
    found = [path for pattern in _MODULES for path in sorted(Path("/").glob(pattern))]
    assert found, "softhsm2 is not installed: make test-packages"
    return found[0]


@dataclass(frozen=True)
class TokenStore:
    """A directory of tokens. The library reads it once in the life of a process: all tokens must be there by then."""

    directory: Path

    @property
    def configuration(self) -> Path:
        """What SOFTHSM2_CONF names."""
        return self.directory / "conf"

    def create(self) -> None:
        """An empty store."""
        (self.directory / "tokens").mkdir(parents=True)
        self.configuration.write_text(
            f"directories.tokendir = {self.directory}/tokens\nobjectstore.backend = file\n", encoding="utf-8"
        )

    def add(self, label: str, keys: Mapping[str, PrivateKeyTypes]) -> None:
        """A token with these keys, each under its name."""
        self._run("make a token", "--init-token", "--free", "--label", label, "--so-pin", "13579")
        for number, (name, key) in enumerate(keys.items(), start=1):
            file = self.directory / f"{name}.pem"
            file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            self._run("import a key", "--import", str(file), "--token", label, "--label", name, "--id", f"0{number}")

    def _run(self, reason: str, *words: str) -> None:
        environment = {"SOFTHSM2_CONF": str(self.configuration), "PATH": os.environ["PATH"]}
        run(["softhsm2-util", *words, "--pin", PIN], reason=reason, environment=environment)
