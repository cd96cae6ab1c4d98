"""No QEMU and no build tools: the trees that they come from are named, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.core.errors import InputError
from builder.host import toolstree
from builder.host.sandbox import Sandbox


@pytest.mark.parametrize(
    ("tree", "name", "what"),
    [
        (toolstree.vm_tree, "vm", "QEMU, its firmware and the broker come"),
        (toolstree.tools_tree, "tools", "the build tools come"),
    ],
)
def test_a_tree_without_a_lock(
    tree: Callable[..., Sandbox], name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolstree, "lock_path", lambda name: tmp_path / name)
    toolstree._tree.cache_clear()
    with pytest.raises(InputError) as caught:
        tree(offline=True)
    toolstree._tree.cache_clear()
    assert str(caught.value) == f"profiles/locks/{name}.lock.json: there is no lock for the tree that {what} from"
    assert caught.value.hint == f"write it: edgeseal lock {name}"
