"""The two repositories of updates as a virtual machine finds them: served on loopback, named to it as site facts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.publish.serve import serving
from builder.publish.site import open_site, policies
from builder.vm.config import GuestService

VENDOR_ADDRESS, VENDOR_PORT = "10.0.2.101", 8080
SITE_ADDRESS, SITE_PORT = "10.0.2.102", 8081
"""As the conduits of the virtual profiles have them."""


@dataclass(frozen=True)
class Served:
    """services: for Connections. credentials: for the device."""

    services: tuple[GuestService, ...]
    credentials: dict[str, bytes]


def repository_facts(site: Path, *, groups: tuple[str, ...] = ()) -> dict[str, bytes]:
    """What a device is told of its repositories. Raises InputError, VerificationError when `site` is none."""
    repository = open_site(site)
    return {
        "edgeseal.site-id": policies(repository)[0].site.encode(),
        "edgeseal.site-root": repository.roots[0].to_bytes(),
        "edgeseal.vendor-url": f"http://{VENDOR_ADDRESS}:{VENDOR_PORT}/".encode(),
        "edgeseal.site-url": f"http://{SITE_ADDRESS}:{SITE_PORT}/".encode(),
        **({"edgeseal.groups": ",".join(groups).encode()} if groups else {}),
    }


@contextmanager
def served(vendor: Path, site: Path, *, groups: tuple[str, ...] = ()) -> Iterator[Served]:
    """Both, for as long as the block runs. Raises InputError when a directory is no repository."""
    facts = repository_facts(site, groups=groups)
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(path)) for path in (vendor, site)]
        places = ((VENDOR_ADDRESS, VENDOR_PORT), (SITE_ADDRESS, SITE_PORT))
        services = [
            GuestService(address, port, server.server_port)
            for (address, port), server in zip(places, servers, strict=True)
        ]
        yield Served(tuple(services), facts)
