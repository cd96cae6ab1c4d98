"""A process that appends to an audit log until it is killed: `python append_forever.py DIRECTORY`.

Says `begun`, then the size after every sync, commit and publish: `durable N`, `signed N`, `published N`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.audit.store import TileLog
from tests.support.log_verifier import fake_sign


def entry(index: int) -> bytes:
    """What stands at `index`."""
    return b'{"index":%d,"text":"%s"}\n' % (index, b"x" * (index * 7 % 300))


def main(directory: Path) -> None:
    """Never returns."""
    public, state = directory / "tlog", directory / "state"
    log = TileLog.open(public, state) if (state / "journal").exists() else TileLog.create(public, state, "kill/test")
    _say("begun", log.size)
    while True:
        for count in (1, 3, 50, 1, 120):
            log.append([entry(index) for index in range(log.size, log.size + count)])
            _say("durable", log.sync())
        _say("signed", log.commit(fake_sign).size)
        log.publish()
        _say("published", log.size)


def _say(what: str, size: int) -> None:
    sys.stdout.write(f"{what} {size}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
