"""Carries out the requests of a test. Development images only."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from appliance.agent.attempts import connect
from appliance.core.durable import write_durable
from appliance.formats.agent import Answer, Connect, Python, Read, Request, Run
from appliance.machine.exec import execute


def carry_out(request: Request) -> Answer:
    """Never raises for what a request did wrong: the answer says it."""
    try:
        if isinstance(request, Run):
            return _run(request)
        if isinstance(request, Python):
            return _python(request)
        if isinstance(request, Connect):
            return Answer(id=request.id, ok=True, result=connect(request))
        if isinstance(request, Read):
            return Answer(id=request.id, ok=True, data_b64=Path(request.path).read_bytes())
        write_durable(Path(request.path), request.data_b64, mode=request.mode)
    except (Exception, SystemExit):  # whatever the test's source raised belongs to the test
        return Answer(id=request.id, ok=False, error=traceback.format_exc())
    return Answer(id=request.id, ok=True)


def _run(request: Run) -> Answer:
    finished = execute(request.argv, timeout_s=request.timeout_s)
    late = finished.rc is None
    return Answer(
        id=request.id,
        ok=not late,
        rc=finished.rc,
        stdout=finished.stdout,
        stderr=finished.stderr,
        error=f"deadline of {request.timeout_s} s passed" if late else "",
    )


def _python(request: Python) -> Answer:
    namespace: dict[str, object] = {"__name__": "edgeseal_test"}
    exec(compile(request.source, "<test>", "exec"), namespace)  # noqa: S102 (this is what the channel is for)
    return Answer(id=request.id, ok=True, result=namespace.get("result"))


def identity() -> tuple[str, str, str]:
    """(boot id, IMAGE_VERSION of os-release, label of the mounted root slot or an empty string)."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    return boot_id, _image_version(), _slot()


def _image_version() -> str:
    for line in Path("/usr/lib/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "IMAGE_VERSION":
            return value.strip('"')
    return ""


def _slot() -> str:
    """The partition under the device-mapper device that is mounted at /."""
    device = Path("/").stat().st_dev
    slaves = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/slaves")
    names = [_partition_label(slave) for slave in sorted(slaves.iterdir())] if slaves.is_dir() else []
    return next((name for name in names if name in ("root-a", "root-b")), "")


def _partition_label(block: Path) -> str:
    for line in (block / "uevent").read_text().splitlines():
        if line.startswith("PARTNAME="):
            return line.removeprefix("PARTNAME=")
    return ""
