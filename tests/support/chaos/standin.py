"""A small uplink for one purpose: to show that the chaos test finds what it looks for.

Honest, it keeps its word (commit, then answer). With --early it answers at once and commits later, as an uplink would
whose author forgot what `accepted` means; a kill -9 then loses what was promised, and the test has to say so.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.core.canonical import canonical_json
from appliance.formats.uplink_envelope import assemble, user_properties
from tests.support.chaos.bodies import FIELDS, STREAMS

_LATE_S = 0.4
_WINDOW = 100


class StandIn:
    """spool: its SQLite file. topic: what its messages' topics begin with."""

    def __init__(self, spool: Path, topic: str, *, early: bool) -> None:
        self._early = early
        self._topic = topic
        self._device = _credential("device-id").read_text()
        self._database = sqlite3.connect(spool)
        self._database.executescript(
            "CREATE TABLE IF NOT EXISTS m (row INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, stream TEXT,"
            "sequence INTEGER, body BLOB);"
            "CREATE TABLE IF NOT EXISTS n (stream TEXT PRIMARY KEY, last INTEGER);"
            "CREATE TABLE IF NOT EXISTS e (epoch TEXT);"
        )
        if self._database.execute("SELECT count(*) FROM e").fetchone() == (0,):
            self._database.execute("INSERT INTO e VALUES (?)", (uuid.uuid4().hex,))
            self._database.commit()
        [(self._epoch,)] = self._database.execute("SELECT epoch FROM e")
        self._committed_at = time.monotonic()
        self._sent = 0
        self._flight: dict[int, int] = {}
        self._gone: list[int] = []
        self._client: mqtt.Client | None = None
        self._connected = False

    def serve(self) -> None:
        """For ever."""
        listener = socket.socket(fileno=3)
        producer: socket.socket | None = None
        while True:
            readable, _, _ = select.select([listener, *([producer] if producer else [])], [], [], 0.005)
            if producer is None and listener in readable:
                producer, _ = listener.accept()
                producer.setblocking(False)
            if producer in readable and producer is not None and not self._take(producer):
                producer.close()
                producer = None
            self._publish()

    def _take(self, producer: socket.socket) -> bool:
        answers = []
        try:
            while len(answers) < 64:
                data = producer.recv(1 << 16)
                if not data:
                    return False
                answers.append(self._spool(msgspec.json.decode(data)))
        except BlockingIOError:
            pass
        except OSError:
            return False
        if not self._early or time.monotonic() > self._committed_at + _LATE_S:
            self._database.commit()
            self._committed_at = time.monotonic()
        for answer in answers:
            producer.send(answer)
        return True

    def _spool(self, request: dict[str, Any]) -> bytes:
        kind = str(request["kind"])
        stream = STREAMS[kind]
        self._database.execute("INSERT INTO n VALUES (?, 1) ON CONFLICT DO UPDATE SET last = last + 1", (stream,))
        [(sequence,)] = self._database.execute("SELECT last FROM n WHERE stream = ?", (stream,))
        row = (kind, stream, sequence, canonical_json(request[FIELDS[kind]]))
        self._database.execute("INSERT INTO m (kind, stream, sequence, body) VALUES (?, ?, ?, ?)", row)
        return msgspec.json.encode({"kind": "accepted", "id": request["id"], "stream": stream, "sequence": sequence})

    def _publish(self) -> None:
        if self._client is None or not self._step():
            self._flight, self._sent, self._connected, self._gone = {}, 0, False, []
            self._client = self._connect()
        for row in self._gone:
            self._database.execute("DELETE FROM m WHERE rowid = ?", (row,))
        self._gone = []
        if not self._connected or len(self._flight) >= _WINDOW or self._client is None:
            return
        query = "SELECT rowid, kind, stream, sequence, body FROM m WHERE rowid > ? ORDER BY rowid LIMIT ?"
        for row, kind, stream, sequence, body in self._database.execute(query, (self._sent, _WINDOW)).fetchall():
            self._send(row, kind, stream, sequence, body)

    def _send(self, row: int, kind: str, stream: str, sequence: int, body: bytes) -> None:
        assert self._client is not None
        accepted = {"boot": 1, "monotonic_us": 1, "quality": "unknown"}
        name = {"device": self._device, "epoch": self._epoch, "stream": stream, "sequence": sequence, "kind": kind}
        data = assemble(**name, **accepted, boot_id="0" * 32, wall_us=1, body=body)  # type: ignore[arg-type]
        lane = "backlog" if stream == "data" else stream
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = list(user_properties(**name, **accepted, lane=lane, age_ms=None))  # type: ignore[arg-type]
        info = self._client.publish(f"{self._topic}/{self._device}/{kind}", data, qos=1, properties=properties)
        self._flight[info.mid] = row
        self._sent = row

    def _connect(self) -> mqtt.Client | None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._device, protocol=mqtt.MQTTv5)
        client.max_inflight_messages_set(65_535)
        client.connect_timeout = 2.0
        client.tls_set(*(str(_credential(name)) for name in ("broker-ca", "client-certificate", "client-key")))
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        try:
            client.connect(_credential("broker-host").read_text(), int(_credential("broker-port").read_text()), 5)
        except OSError:
            time.sleep(0.1)
            return None
        return client

    def _step(self) -> bool:
        assert self._client is not None
        code = self._client.loop_read()
        if code == mqtt.MQTT_ERR_SUCCESS and self._client.want_write():
            code = self._client.loop_write()
        self._client.loop_misc()
        return code == mqtt.MQTT_ERR_SUCCESS and self._client.socket() is not None

    def _on_connect(self, *_: object) -> None:
        self._connected = True

    def _on_publish(self, _client: object, _data: object, mid: int, *_: object) -> None:
        self._gone.append(self._flight.pop(mid))


def _credential(name: str) -> Path:
    return Path(os.environ["CREDENTIALS_DIRECTORY"]) / f"edgeseal.{name}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("spool", type=Path)
    parser.add_argument("topic")
    parser.add_argument("--early", action="store_true")
    arguments = parser.parse_args()
    StandIn(arguments.spool, arguments.topic, early=arguments.early).serve()
