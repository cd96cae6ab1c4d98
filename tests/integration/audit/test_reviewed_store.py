"""The device's store grows and is pruned; the reviewer and Go verify what is left, at every step."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.audit.store import TileLog
from appliance.formats.signed_note import decode_vkey
from builder.audit.policy import Policy
from builder.audit.verify import verify_log
from tests.integration.audit.foreign import run_go
from tests.support.audit_story import ORIGIN, Story, story

NOBODY = Policy((), {}, {}, None)


def sign(told: Story) -> object:
    return lambda text: f"{text}\n{''.join(key.line(text) for key in told.signers)}".encode()


@pytest.mark.parametrize(
    ("size", "minimum", "kept"), [(900, 0, 0), (900, 300, 256), (900, 768, 768), (66_300, 65_900, 65_792)]
)
def test_what_is_left_of_a_pruned_log_verifies(size: int, minimum: int, kept: int, tmp_path: Path) -> None:
    told = story(boots=2)
    told.fill(size - len(told.entries))
    public, state = tmp_path / "tlog", tmp_path / "state"
    log = TileLog.create(public, state, ORIGIN)
    kept_note = b""
    for start in range(0, size, 700):
        log.append(told.entries[start : start + 700])
        kept_note = kept_note or log.commit(sign(told)).note  # type: ignore[arg-type]
    log.commit(sign(told))  # type: ignore[arg-type]
    log.publish()
    if minimum:
        log.prune(minimum)
    since = kept_note if not minimum else None
    found = verify_log(public, [decode_vkey(told.log_key.vkey)], NOBODY, since=since)
    assert [finding.sentence() for finding in found.findings] == []
    assert (found.size, found.minimum, found.entries) == (size, kept, size - kept)
    code, said = run_go(public, told.log_key.vkey)
    assert code == 0, said
    assert f"inclusion: {size - kept} entries are in the tree, {kept} are pruned" in said
    log.close()
