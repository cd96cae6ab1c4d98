"""A real broker for one run: mosquitto on the host's loopback, TLS 1.3, certificates on both sides, nothing kept."""

from __future__ import annotations

import socket
from pathlib import Path

from appliance.core.errors import EdgesealError
from builder.host.child import Child
from builder.host.sandbox import Sandbox
from builder.vm.deadline import wait_until
from builder.vm.site import HISTORIAN, Site

TOPICS = "#"
_START_S = 20.0
_TRIES = 5


class Broker:
    """A running broker. port: on 127.0.0.1."""

    def __init__(self, directory: Path, site: Site, tree: Sandbox) -> None:
        """directory: empty or missing; gets settings and log. Raises EdgesealError when it does not start."""
        directory.mkdir(parents=True, exist_ok=True)
        self.site = site
        self.log = directory / "broker.log"
        for attempt in range(_TRIES):
            self.port = _free_port()
            self._child = _start(directory, site, tree, port=self.port, log=self.log)
            try:
                wait_until(self._listens, what="the broker listens", within_s=_START_S, check=self._child.require_alive)
                return
            except EdgesealError:
                self._child.stop()
                if attempt == _TRIES - 1:  # before that, somebody else may have taken the port
                    raise

    def stop(self) -> None:
        """End it."""
        self._child.stop()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def broker_settings(site: Site, *, port: int, rules: Path) -> str:
    """mosquitto.conf(5). The common name of a client's certificate is its user name. rules: the access list."""
    return "\n".join(
        (
            f"listener {port} 127.0.0.1",
            "tls_version tlsv1.3",
            f"cafile {site.authority}",
            f"certfile {site.certificate('broker')}",
            f"keyfile {site.key('broker')}",
            "require_certificate true",
            "use_identity_as_username true",
            "allow_anonymous false",
            f"acl_file {rules}",
            "persistence false",
            "user root",
            "log_dest stdout",
            "log_type all",
            "",
        )
    )


def access_rules(site: Site) -> str:
    """acl_file of mosquitto.conf(5). A device writes below its own name and reads the two answers that are for it.

    The historian reads everything and writes receipts. A plant names its one namespace; here it may have any depth.
    """
    above = ["/".join("+" * depth) for depth in range(2, 6)]
    device = [
        f"{right} {namespace}/{site.device_id}/{level}"
        for namespace in above
        for right, level in (("write", "#"), ("read", "receipt"), ("read", "certificate"))
    ]
    sparkplug = [f"write spBv1.0/+/+/{site.device_id}/#", f"write spBv1.0/+/+/{site.device_id}", "read spBv1.0/STATE/#"]
    historian = [f"read {TOPICS}", *(f"write {namespace}/+/receipt" for namespace in above), "write spBv1.0/STATE/#"]
    return "".join(
        f"user {user}\n" + "".join(f"topic {rule}\n" for rule in rules) + "\n"
        for user, rules in ((site.device_id, [*device, *sparkplug]), (HISTORIAN, historian))
    )


def _start(directory: Path, site: Site, tree: Sandbox, *, port: int, log: Path) -> Child:
    settings, rules = directory / "broker.conf", directory / "broker.acl"
    rules.write_text(access_rules(site))
    rules.chmod(0o600)
    settings.write_text(broker_settings(site, port=port, rules=rules))
    binds: dict[Path, str | None] = {directory: None}
    binds[site.directory] = None
    command = tree.command(["mosquitto", "-c", settings], binds=binds, network=True)
    return Child(command, reason="run the broker", log=log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
