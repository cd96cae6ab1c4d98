"""Site facts, given by systemd as credentials: one file each in $CREDENTIALS_DIRECTORY."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.verdict import decode_device_id

MAX_CREDENTIAL_BYTES = 64 << 10


class Credentials:
    """The credentials of this service."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def from_environment(cls) -> Credentials:
        """As systemd set them up. Raises EdgesealError when there are none."""
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if directory is None:
            raise EdgesealError(
                "the site gave no credentials to this service",
                hint="provision the device: edgeseal.device-id, edgeseal.broker-host and so on",
            )
        return cls(Path(directory))

    def path(self, name: str) -> Path:
        """The file of one credential, for libraries that want a file. Raises EdgesealError when it is missing."""
        path = self._directory / f"edgeseal.{name}"
        if not path.is_file():
            raise EdgesealError(f"credential edgeseal.{name} is missing", hint="the site's provisioning sets it")
        return path

    def device_id(self) -> str:
        """The site's name of this device. Raises EdgesealError, DecodeError."""
        return decode_device_id(self.text("device-id"))

    def optional_bytes(self, name: str) -> bytes | None:
        """One credential, or None where the site gave none."""
        path = self._directory / f"edgeseal.{name}"
        return path.read_bytes() if path.is_file() else None

    def optional_text(self, name: str) -> str | None:
        """As `text`, or None where the site gave none. Raises DecodeError."""
        return self.text(name) if (self._directory / f"edgeseal.{name}").is_file() else None

    def text(self, name: str) -> str:
        """One credential as a line of text, without the white space around it. Raises EdgesealError, DecodeError."""
        data = self.path(name).read_bytes()
        if len(data) > MAX_CREDENTIAL_BYTES:
            raise DecodeError(f"credential edgeseal.{name}: {len(data)} bytes, at most {MAX_CREDENTIAL_BYTES}")
        try:
            text = data.decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise DecodeError(f"credential edgeseal.{name}: not plain ASCII text") from error
        if not text or not text.isprintable():
            raise DecodeError(f"credential edgeseal.{name}: not one printable line")
        return text
