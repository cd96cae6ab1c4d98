"""What a service would get that tries to reach somebody: in its control group, as its user. Development images only."""

from __future__ import annotations

from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.formats.agent import Connect
from appliance.machine.exec import run

_CGROUPS = Path("/sys/fs/cgroup/system.slice")
_SPARE_S = 60  # an emulated machine starts Python slowly

# A process of its own: it enters the control group, gives up root, and tries.
_PROGRAM = """
import errno, os, socket, sys
procs, uid, address, port, timeout = sys.argv[1:]
with open(procs, "w") as stream:
    stream.write("0")
os.setgroups([])
os.setresgid(int(uid), int(uid), int(uid))
os.setresuid(int(uid), int(uid), int(uid))
try:
    socket.create_connection((address, int(port)), timeout=int(timeout)).close()
except TimeoutError:
    print("no answer")
except OSError as error:
    print(errno.errorcode.get(error.errno, str(error)))
else:
    print("connected")
"""


def connect(request: Connect) -> str:
    """`connected`, `no answer`, or the kernel's word for the refusal. Raises EdgesealError when it cannot be tried."""
    procs = _CGROUPS / request.unit / "cgroup.procs"
    if not procs.exists():
        raise EdgesealError(f"{request.unit} has no control group: it does not run")
    words = [str(procs), str(request.uid), request.address, str(request.port), str(request.timeout_s)]
    command = ["/usr/bin/python3", "-I", "-c", _PROGRAM, *words]
    said = run(command, reason="try to connect", timeout_s=request.timeout_s + _SPARE_S)
    return said.decode().strip()
