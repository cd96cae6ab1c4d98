"""How old a message is, over reboots and although nobody may know the time. Pure.

Within one boot the monotonic clock says it. Over a reboot the wall clock says it where both boots had one that was
worth something; else only the hours with power are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from appliance.core.clock import Moment

NO_ORIGIN = -1
SEEN_EVERY_US = 60_000_000  # how exactly the end of a boot is known; each time costs one page of flash


@dataclass(frozen=True)
class Boot:
    """A boot that the spool has seen. number: from 1, rising. last_us: monotonic time when it was last seen.

    origin_us: wall clock at monotonic time 0, NO_ORIGIN while the clock was worth nothing.
    """

    number: int
    boot_id: str
    last_us: int
    origin_us: int = NO_ORIGIN

    def seen(self, moment: Moment) -> Boot:
        """This boot at a later moment of it: a clock that was set later dates what was accepted before, too."""
        origin = self.origin_us if moment.quality == "unknown" else moment.wall_us - moment.monotonic_us
        return replace(self, last_us=max(self.last_us, moment.monotonic_us), origin_us=origin)


@dataclass(frozen=True)
class Age:
    """exact: whether the hours without power are in it, or were none; else it is a lower bound."""

    us: int
    exact: bool


class Boots:
    """All that the spool has seen. current: number of this one."""

    def __init__(self, known: Iterable[Boot], moment: Moment) -> None:
        self._boots = {boot.number: boot for boot in known}
        newest = max(self._boots, default=0)
        self._is_new = not newest or self._boots[newest].boot_id != moment.boot_id
        self.current = newest + self._is_new
        if self._is_new:
            self._boots[self.current] = Boot(self.current, moment.boot_id, moment.monotonic_us)

    def id_of(self, number: int) -> str | None:
        """The kernel's name of a boot; None when it was never seen."""
        boot = self._boots.get(number)
        return None if boot is None else boot.boot_id

    def to_write(self, moment: Moment) -> Boot | None:
        """What the file should say of this boot, when that is due."""
        known, seen = self._boots[self.current], self._boots[self.current].seen(moment)
        first_time = known.origin_us == NO_ORIGIN != seen.origin_us
        return seen if self._is_new or first_time or seen.last_us - known.last_us >= SEEN_EVERY_US else None

    def written(self, boot: Boot) -> None:
        """The file says so."""
        self._boots[boot.number] = boot
        self._is_new = False

    def age(self, number: int, monotonic_us: int, moment: Moment) -> Age:
        """How long ago something of boot `number` was. moment: in this boot."""
        if number == self.current:
            return Age(max(0, moment.monotonic_us - monotonic_us), exact=True)
        then, now = self._boots.get(number), self._boots[self.current].seen(moment)
        if then is None:
            return Age(moment.monotonic_us, exact=False)
        powered = max(0, then.last_us - monotonic_us) + moment.monotonic_us
        powered += sum(one.last_us for one in self._boots.values() if number < one.number < self.current)
        if NO_ORIGIN in (then.origin_us, now.origin_us):
            return Age(powered, exact=False)
        return Age(max(powered, now.origin_us + moment.monotonic_us - then.origin_us - monotonic_us), exact=True)
