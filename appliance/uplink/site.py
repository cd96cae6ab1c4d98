"""What the site says of the uplink: brokers, names and keys, as credentials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import DecodeError
from appliance.formats.device import UplinkConfig
from appliance.formats.uplink_namespace import decode_namespace
from appliance.machine.credentials import Credentials
from appliance.uplink.brokers import Broker

MAX_BROKERS = 8


@dataclass(frozen=True)
class Site:
    """brokers: in the order in which they are tried. namespace: the levels of topics above the device."""

    device: str
    brokers: tuple[Broker, ...]
    namespace: str
    ca: Path
    certificate: Path
    key: Path


def read_site(credentials: Credentials, config: UplinkConfig) -> Site:
    """Raises EdgesealError when something is missing, DecodeError when it makes no sense."""
    namespace = credentials.optional_bytes("namespace")
    return Site(
        brokers=_brokers(credentials),
        device=credentials.device_id(),
        namespace=(config.namespace if namespace is None else decode_namespace(namespace)).topic,
        ca=credentials.path("broker-ca"),
        certificate=credentials.path("client-certificate"),
        key=credentials.path("client-key"),
    )


def _brokers(credentials: Credentials) -> tuple[Broker, ...]:
    several = credentials.optional_text("broker-hosts")
    if several is None:
        port = credentials.text("broker-port")
        return (Broker(credentials.text("broker-host"), _port("broker-port", port)),)
    brokers = tuple(_broker(word) for word in several.split())
    if len(brokers) > MAX_BROKERS:
        raise DecodeError(
            f"credential edgeseal.broker-hosts: {len(brokers)} brokers, at most {MAX_BROKERS} are allowed"
        )
    return brokers


def _broker(word: str) -> Broker:
    host, colon, port = word.rpartition(":")
    if not colon or not host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise DecodeError(
            f"credential edgeseal.broker-hosts: `{word}` is no host:port",
            hint="as broker.example.test:8883 [fd00::1]:8883",
        )
    return Broker(host.removeprefix("[").removesuffix("]"), _port("broker-hosts", port))


def _port(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65_535:
        raise DecodeError(f"credential edgeseal.{name}: `{text}` is not a port", hint="1 to 65535")
    return int(text)
