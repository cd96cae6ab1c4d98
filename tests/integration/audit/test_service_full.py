"""No room: the budget, and a disk that is really full (a small file system of its own)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.formats.audit_event import NotRecorded, Recorded
from appliance.formats.device import AuditConfig
from tests.integration.audit.service_lab import AuditLab, Raw, packet
from tests.integration.services_harness import wait_until

MIB = 1 << 20
LONG = "x" * 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """12 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(lab: AuditLab, events: int) -> list[bool]:
    """Say so many large events; which were recorded."""
    raw, answers = Raw(lab.socket), []
    for start in range(0, events, 32):
        for number in range(start, start + 32):
            raw.socket.sendall(packet("boot-judged", reason=LONG, seconds=number))
        answers += [raw.answer() for _ in range(32)]
    raw.socket.close()
    assert {answer.reason for answer in answers if isinstance(answer, NotRecorded)} <= {"full"}
    return [isinstance(answer, Recorded) for answer in answers]


def budget(full: str) -> AuditConfig:
    return AuditConfig(log_bytes=8 * MIB, full=full, sender_rate=100_000, sender_burst=1_000_000)  # type: ignore[arg-type]


def test_the_oldest_entries_give_way(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path, budget("overwrite-oldest"))
    with lab.running():
        assert all(fill(lab, 16_000))
        kept = sum(path.stat().st_blocks * 512 for path in lab.log.rglob("*") if path.is_file())
        assert kept <= 8 * MIB
        assert len(list((lab.log / "tile" / "entries").glob("*"))) < 16_000 // 256
    with lab.running() as client:
        assert client.record("service-started", service="after") > 16_000


def test_what_did_not_leave_is_not_given_up(tmp_path: Path) -> None:
    """stop-control-plane: the writer answers `full`, and who must not act without a record does not act."""
    lab = AuditLab(tmp_path, budget("stop-control-plane"))
    with lab.running():
        recorded = fill(lab, 9_600)
        assert True in recorded
        assert recorded[-1] is False
        wait_until(lambda: not (tmp_path / "takes-events").exists(), "others see it")
    kinds = lab.kinds()
    assert kinds.count("log-full") == 1
    [refused] = lab.told("events-refused")
    assert refused.event.fields["count"] == recorded.count(False)
    assert kinds[-1] == "log-closed"
    assert "log-pruned" not in kinds
    lab.configure(budget("overwrite-oldest"))
    with lab.running() as client:  # another profile's action gives room
        wait_until(lambda: try_record(lab), "room")
        client.record("service-started", service="again")
        wait_until(lambda: (tmp_path / "takes-events").exists(), "others see it")


def try_record(lab: AuditLab) -> bool:
    raw = Raw(lab.socket)
    answer = raw.say(packet("service-started", service="try"))
    raw.socket.close()
    return isinstance(answer, Recorded)


@pytest.mark.parametrize("full", ["overwrite-oldest", "stop-control-plane"])
def test_a_disk_that_is_full(small_disk: Path, full: str) -> None:
    """The reserve lets the log say so. Nothing that was acknowledged is lost."""
    config = AuditConfig(log_bytes=64 * MIB, full=full, sender_rate=100_000, sender_burst=1_000_000)  # type: ignore[arg-type]
    lab = AuditLab(small_disk, config)
    with lab.running() as client:
        client.record("boot-judged", reason="before", seconds=1)
        (small_disk / "somebody-else").write_bytes(bytes(5 * MIB))
        raw, recorded = Raw(lab.socket), 0
        try:
            for number in range(20_000):
                answer = raw.say(packet("boot-judged", reason=LONG, seconds=number))
                if isinstance(answer, NotRecorded):
                    assert answer.reason == "full"
                    break
                recorded = answer.sequence
        except (OSError, ValueError):
            pass  # the log is opened again: it hangs up
        except Exception as error:
            assert "audit event" in str(error)  # an empty answer is the end of the connection
        raw.socket.close()
        assert recorded > 0
        wait_until(lambda: try_any(lab), "the writer answers again")
        (small_disk / "somebody-else").unlink()
        wait_until(lambda: try_record(lab), "room")
    assert (small_disk / "audit.log").read_text().count("it could not be written: No space left on device") >= 1
    with lab.running() as client:
        assert client.record("service-started", service="after") > recorded


def try_any(lab: AuditLab) -> bool:
    raw = Raw(lab.socket)
    try:
        raw.say(packet("service-started", service="try"))
        return True
    except Exception:
        return False
    finally:
        raw.socket.close()
