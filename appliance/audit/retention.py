"""What happens when there is no room: bytes of the log against its budget, and a disk that is full. See docs/adr/0029.

overwrite-oldest gives up the oldest entries. stop-control-plane and halt give up only what the uplink has taken; when
the rest fills the budget, new events are refused with `full`, and `halt` also asks for the power to be cut, later.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from appliance.audit.opening import asides
from appliance.audit.writer import RESERVED_BYTES, Writer
from appliance.core.clock import Moment
from appliance.formats.audit_event import AUDIT_TAKES_EVENTS
from appliance.formats.audit_log import MAX_ENTRY_BYTES
from appliance.formats.device import AuditConfig

RESERVE_BYTES = 512 << 10
"""Of the disk, kept by a file: what the log needs to say that the disk is full, and to free room."""
MARGIN_BYTES = RESERVED_BYTES + 2 * MAX_ENTRY_BYTES
HALT_AFTER_US = 600_000_000  # time for the uplink to take what is here, also after a boot with a full log
SHARE = 16  # a sixteenth of the budget goes at once, not one tile after the other


class Retention:
    """The budget of one log. log: its public directory. reserve: the file. halt: the file that asks for the end."""

    def __init__(self, config: AuditConfig, log: Path, reserve: Path, halt: Path) -> None:
        self._config = config
        self._log = log
        self._reserve = reserve
        self._halt = halt
        self._sign = halt.with_name(Path(AUDIT_TAKES_EVENTS).name)
        self._full_since: int | None = None
        self._short = False
        self._counted: dict[Path, int] = {}

    @property
    def budget(self) -> int | None:
        """For the writer; None when the oldest entries give way."""
        return None if self._config.full == "overwrite-oldest" else self._config.log_bytes - self._aside_bytes()

    def disk_full(self) -> None:
        """Give the reserve back to the file system, and free more at the next look."""
        self._reserve.unlink(missing_ok=True)
        self._short = True

    def look(self, writer: Writer, now: Moment, sent: int) -> None:
        """Free what has to be freed. sent: entries that the uplink has taken. Raises OSError."""
        limit = self._config.log_bytes - self._aside_bytes()
        if self._short or writer.log.disk_bytes + MARGIN_BYTES > limit:
            self._free(writer, sent)
        self._short = not self._keep_reserve()
        writer.room_again(self.budget if not self._short or self.budget is None else 0)
        self._show(writer.has_room)
        self._watch_halt(writer, now)

    def _free(self, writer: Writer, sent: int) -> None:
        old = asides(self._log)
        if old and self._config.full == "overwrite-oldest":
            self._drop(old[0])
            return
        log = writer.log
        minimum = log.minimum_to_free(max(self._config.log_bytes // SHARE, RESERVE_BYTES))
        if self._config.full != "overwrite-oldest":
            minimum = min(minimum, sent)
        if minimum > log.minimum:
            writer.own("log-pruned", minimum=minimum, bytes=self._config.log_bytes)
            writer.commit()
            log.publish()
            log.prune(minimum)

    def _drop(self, aside: Path) -> None:
        number = aside.name.rpartition("-")[2]
        shutil.rmtree(aside)
        self._counted.pop(aside, None)
        store = self._reserve.parent / f"store.rejected-{number}"
        if store.exists():
            shutil.rmtree(store)

    def _keep_reserve(self) -> bool:
        """Whether the reserve is there, or could be made again."""
        if self._reserve.exists():
            return True
        descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            self._reserve.unlink()
            return False
        finally:
            os.close(descriptor)
        return True

    def _show(self, has_room: bool) -> None:
        """For who must not act without a record (formats.audit_event.AUDIT_TAKES_EVENTS)."""
        with contextlib.suppress(OSError):  # without its directory it is not there, and nobody acts
            if has_room and not self._sign.exists():
                self._sign.touch()
            elif not has_room:
                self._sign.unlink(missing_ok=True)

    def _watch_halt(self, writer: Writer, now: Moment) -> None:
        if self._config.full != "halt" or not writer.full:
            self._full_since = None
            return
        self._full_since = now.monotonic_us if self._full_since is None else self._full_since
        if now.monotonic_us - self._full_since >= HALT_AFTER_US and not self._halt.exists():
            writer.own("log-degraded", "failure", reason="the log is full: the device is switched off, as it has to be")
            writer.commit()
            writer.log.publish()
            self._halt.touch()

    def _aside_bytes(self) -> int:
        """Of logs that were put aside; they count towards the budget. Nobody changes them: each is counted once."""
        found = asides(self._log)
        for aside in found:
            if aside not in self._counted:
                files = (path for path in aside.rglob("*") if path.is_file())
                self._counted[aside] = sum(path.stat().st_blocks * 512 for path in files)
        return sum(self._counted[aside] for aside in found)
