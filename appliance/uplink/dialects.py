"""Which dialect the profile wants."""

from __future__ import annotations

from pathlib import Path

from appliance.core.clock import Clock
from appliance.formats.device import UplinkConfig
from appliance.uplink.dialect import Dialect
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.site import Site


def make_dialect(site: Site, config: UplinkConfig, *, epoch: str, directory: Path, clock: Clock) -> Dialect:
    """One for the spool of this epoch. directory: where it may keep things. Raises OSError."""
    json = JsonDialect(
        namespace=site.namespace,
        device=site.device,
        epoch=epoch,
        batches=config.data.batch,
        receipts=config.delivery == "historian",
    )
    if config.payload == "json" or config.sparkplug is None:
        return json
    # Loaded only where it is spoken: protobuf takes 9.5 MiB of memory.
    from appliance.uplink.sparkplug import SparkplugDialect
    from appliance.uplink.sparkplug_births import BirthCounter

    return SparkplugDialect(
        json=json,
        group=config.sparkplug.group,
        device=site.device,
        epoch=epoch,
        primary_host=config.sparkplug.primary_host,
        births=BirthCounter(directory / "sparkplug-bdseq"),
        clock=clock,
        walks=len(site.brokers) > 1,
    )
