"""The architecture, held against the code; and the checker, held against code that breaks it."""

from __future__ import annotations

import pytest

from builder.host.paths import source_root
from tests.support.layers import PURE, SERVICES, read_tree, violations

SOURCES = read_tree(source_root())


def test_the_code_keeps_the_architecture() -> None:
    assert violations(SOURCES) == []


def test_there_is_something_to_check() -> None:
    assert {"appliance.core.errors", "appliance.formats.device", "builder.profile.load"} <= set(SOURCES)
    parts = {name.split(".")[1] for name in SOURCES if name.startswith("appliance.")}
    assert parts - {"core", "formats", "machine"} <= set(SERVICES)


@pytest.mark.parametrize("pattern", [pattern for pattern in PURE if "*" not in pattern])
def test_a_pure_module_exists(pattern: str) -> None:
    assert pattern in SOURCES


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("appliance.core.x", "import msgspec", "1: appliance.core may not import msgspec"),
        (
            "appliance.core.x",
            "from appliance.formats.device import MIB",
            "1: appliance.core may not import appliance.formats.device",
        ),
        ("appliance.formats.x", "import numpy", "1: appliance.formats may not import numpy"),
        (
            "appliance.formats.x",
            "import appliance.machine.exec",
            "1: appliance.formats may not import appliance.machine.exec",
        ),
        (
            "appliance.machine.x",
            "from appliance.uplink import outbox",
            "1: appliance.machine may not import appliance.uplink",
        ),
        (
            "appliance.uplink.x",
            "from appliance.audit.writer import Writer",
            "1: appliance.uplink may not import appliance.audit.writer",
        ),
        ("appliance.uplink.x", "import onnxruntime", "1: appliance.uplink may not import onnxruntime"),
        ("appliance.audit.x", "from builder.lock import codec", "1: appliance.audit may not import builder.lock"),
        ("builder.disk.x", "import appliance.uplink.outbox", "1: builder.disk may not import appliance.uplink.outbox"),
        (
            "builder.disk.x",
            "def f():\n    from appliance.machine.exec import run",
            "2: builder.disk may not import appliance.machine.exec",
        ),
        (
            "builder.profile.rules",
            "from builder.host.run import run",
            "1: builder.profile.rules is pure and may not import builder.host.run",
        ),
        (
            "builder.disk.x",
            "import subprocess",
            "1: subprocess: only builder.host.* and appliance.machine.exec may start a process",
        ),
        (
            "appliance.uplink.x",
            "import os\nos.execv('/bin/sh', [])",
            "2: os.execv: only builder.host.* and appliance.machine.exec may start a process",
        ),
        ("builder.lock.x", "from yaml import safe_load", "1: yaml: only builder.profile.document may read YAML"),
        (
            "builder.image.x",
            "import time\nstamp = time.time()",
            "2: time.time: only builder.cli.* and appliance.machine.clock may ask for the time of day",
        ),
        (
            "builder.image.x",
            "import datetime\nstamp = datetime.datetime.now()",
            "2: datetime.datetime.now: only builder.cli.* and appliance.machine.clock may ask for the time of day",
        ),
        (
            "builder.image.x",
            "import uuid\nname = uuid.uuid4()",
            "2: uuid.uuid4: only appliance.uplink.* and appliance.update.service and builder.vm.* may throw dice",
        ),
        (
            "builder.rootfs.pycompile",
            "import numpy",
            "1: builder.rootfs.pycompile runs alone in a sandbox and may not import numpy",
        ),
        ("builder.lock.x", "import pickle", "1: pickle: only appliance.agent.requests may run data as code"),
        ("builder.lock.x", "eval('1')", "1: eval: only appliance.agent.requests may run data as code"),
        (
            "builder.lock.x",
            "print('done')",
            "1: print: only builder.cli.main and appliance.machine.notify may print",
        ),
        (
            "builder.archive.x",
            "import urllib.request",
            "1: urllib.request: only builder.host.* and appliance.update.http may speak HTTP",
        ),
    ],
)
def test_the_checker_can_fail(module: str, source: str, fault: str) -> None:
    assert f"{module}:{fault}" in violations({module: source})


def test_the_checker_sees_a_library_in_two_modules() -> None:
    sources = {"appliance.uplink.a": "import paho.mqtt.client", "appliance.uplink.b": "from paho.mqtt import enums"}
    assert violations(sources) == [
        "paho is imported by appliance.uplink.a and appliance.uplink.b, one module holds a library"
    ]


def test_the_checker_sees_a_cycle() -> None:
    sources = {
        "builder.disk.a": "from builder.disk.b import B",
        "builder.disk.b": "import builder.disk.a",
        "builder.disk.c": "def f():\n    import builder.disk.d",
        "builder.disk.d": "import builder.disk.c",
        "builder.disk.e": "if TYPE_CHECKING:\n    import builder.disk.f",
        "builder.disk.f": "import builder.disk.e",
    }
    assert violations(sources) == ["import cycle: builder.disk.a -> builder.disk.b -> builder.disk.a"]


def test_the_checker_lets_good_code_pass() -> None:
    assert (
        violations(
            {
                "appliance.inference.judge": "import numpy\nfrom appliance.formats.device import DeviceConfig",
                "appliance.inference.runtime": "import onnxruntime\nimport numpy\nfrom appliance.machine import exec",
                "builder.host.run": "import subprocess",
                "builder.cli.keys": "from datetime import UTC, datetime\nnow = datetime.now(UTC)",
                "builder.disk.compose": "import re\nrule = re.compile('x')\nfrom appliance.core import durable",
            }
        )
        == []
    )
