"""Asks pysparkplug, which we did not write, what our payloads say, and for payloads of a host.

As a program: a question in JSON on stdin, the answer on stdout; PYTHONPATH leads to .venv/judges.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from builder.host.paths import source_root


def _ask(question: dict[str, Any]) -> Any:
    judges = source_root() / ".venv" / "judges"
    assert (judges / "installed").exists(), "the judges are missing: make .venv/judges/installed"
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(question),
        env={"PYTHONPATH": f"{judges}:{source_root()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def decode(messages: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """What each (topic, payload) says: type, node, seq, timestamp, metrics; data is read with the birth before it."""
    answer = _ask({"decode": [(topic, payload.hex()) for topic, payload in messages]})
    assert isinstance(answer, list)
    return answer


def command(name: str, value: bool, timestamp: int) -> bytes:
    """An NCMD as that host would write it."""
    return bytes.fromhex(_ask({"command": [name, value, timestamp]}))


def state(online: bool, timestamp: int) -> bytes:
    """A STATE as that host would write it."""
    return bytes.fromhex(_ask({"state": [online, timestamp]}))


def _decoded(messages: list[tuple[str, str]]) -> list[dict[str, Any]]:
    import pysparkplug as judge

    birth: Any = None
    found = []
    for text, payload in messages:
        topic = judge.Topic.from_str(text)
        kind = topic.message_type.payload
        read = kind.decode(bytes.fromhex(payload), birth=birth)
        if kind is judge.NBirth:
            birth = read
        metrics = (read.bd_seq_metric,) if kind is judge.NDeath else read.metrics
        found.append(
            {
                "type": str(topic.message_type.value),
                "node": f"{topic.group_id}/{topic.edge_node_id}",
                "device": topic.device_id,
                "seq": getattr(read, "seq", None),
                "timestamp": read.timestamp,
                "metrics": {
                    metric.name: {
                        "value": metric.value,
                        "datatype": metric.datatype.name,
                        "alias": metric.alias,
                        "timestamp": metric.timestamp,
                        "historical": metric.is_historical,
                        "null": metric.is_null,
                    }
                    for metric in metrics
                },
            }
        )
    return found


def _answer(question: dict[str, Any]) -> Any:
    import pysparkplug as judge

    if "decode" in question:
        return _decoded(question["decode"])
    if "state" in question:
        online, timestamp = question["state"]
        return judge.State(timestamp=timestamp, online=online).encode().hex()
    name, value, timestamp = question["command"]
    metric = judge.Metric(timestamp=timestamp, name=name, datatype=judge.DataType.BOOLEAN, value=value)
    return judge.NCmd(timestamp=timestamp, metrics=(metric,)).encode(include_dtypes=True).hex()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_answer(json.load(sys.stdin))))
