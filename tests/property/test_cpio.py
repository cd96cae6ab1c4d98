"""Any plan comes back from its archive."""

from __future__ import annotations

import stat

from hypothesis import given
from hypothesis import strategies as st

from builder.boot.cpio import write_cpio
from builder.rootfs.entries import Directory, Entry, File, RootPlan, Symlink
from tests.support.cpio import read_newc

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9
)
ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    st.builds(lambda data, mode: File(content=data, mode=mode), st.binary(max_size=64), st.integers(0, 0o777)),
    st.builds(Symlink, NAMES),
    st.builds(Directory, st.integers(0, 0o777)),
)
PLANS = st.dictionaries(NAMES.filter(lambda name: name not in (".", "..", "TRAILER!!!")), ENTRIES, max_size=12)


@given(PLANS)
def test_what_is_written_is_read(plan: RootPlan) -> None:
    found = {member.path: member for member in read_newc(write_cpio(plan, epoch=1))}
    assert list(found) == sorted(plan)
    for path, entry in plan.items():
        mode, data = found[path].fields["mode"], found[path].data
        if isinstance(entry, File):
            assert (stat.S_ISREG(mode), stat.S_IMODE(mode), data) == (True, entry.mode, entry.content)
        elif isinstance(entry, Symlink):
            assert (stat.S_ISLNK(mode), data) == (True, entry.target.encode())
        else:
            assert (stat.S_ISDIR(mode), stat.S_IMODE(mode), data) == (True, entry.mode, b"")
