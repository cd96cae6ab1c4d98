"""The real uplink service for the chaos test: this user may hand in everything, and its wall clock can be stepped.

The clock enters the service as an argument, so a step of it is one: the offset is read from a file each time.
libfaketime is no choice: with the time since boot left true, its clock_nanosleep fails, and time.sleep with it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from appliance.core.clock import Clock, Moment
from appliance.machine.clock import system_clock
from appliance.machine.entry import run_service
from appliance.uplink import service


def stepped_clock(offset: Path) -> Clock:
    """The kernel's clocks, with the wall clock as many seconds off as the file says."""
    true = system_clock()

    def now() -> Moment:
        moment = true()
        return replace(moment, wall_us=max(0, moment.wall_us + int(offset.read_text()) * 1_000_000))

    return now


def main(config: Path, spool: Path, audit: Path, offset: Path) -> int:
    """The service's exit status. offset: where there is no such file, the clock is the kernel's."""
    if offset.exists():
        service.system_clock = lambda: stepped_clock(offset)
    me = frozenset({os.getuid()})
    settings = service.Settings(
        config=config,
        spool=spool,
        old_spool=spool.with_name("spool-of-version-1.sqlite"),
        audit_socket=str(audit),
        publishers=me,
        reporters=me,
        alarmers=me,
        auditors=me,
        readers=me,
        first_pause_s=1.0,
    )
    return run_service(lambda: service.serve(settings))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
