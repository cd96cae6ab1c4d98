"""resolve: the only step that chooses versions."""

from __future__ import annotations

from builder.archive.pool import Pool
from builder.host.paths import cache_directory
from builder.lock.apt import PrivateApt
from builder.lock.requests import Request
from builder.lock.types import Lock
from builder.lock.wheels import resolve_wheels


def resolve(request: Request, *, pool: Pool | None = None, refresh: bool = True) -> Lock:
    """Choose the newest versions that the distribution has now, security fixes included. Uses the network.

    pool: gets the wheels, which had to be fetched to be hashed.
    refresh: fetch the package indexes first; without it the ones of the last lock are used.
    """
    apt = PrivateApt(
        cache_directory() / "apt" / f"trixie-{request.architecture}",
        suite="trixie",
        architecture=request.architecture,
        kept_out=request.kept_out,
    )
    if refresh:
        apt.update()
    return Lock(
        name=request.name,
        architecture=request.architecture,
        distribution="debian/trixie",
        request=request.digest(),
        epoch=apt.epoch(),
        packages=apt.describe(apt.solve(request.packages)),
        wheels=resolve_wheels(request.wheels, architecture=request.architecture, pool=pool),
    )
