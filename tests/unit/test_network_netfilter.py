"""The way to the kernel and back: what is run, and what is said when this machine does not let it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError, InputError
from builder.host import netfilter
from builder.host.netfilter import load_and_list
from builder.host.sandbox import Sandbox

TOOLS = Sandbox(root=Path("/tools"), epoch=0)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the sandbox answers to the next runs; the commands that it was given stand in their place."""
    waiting: list[object] = []

    def run(command: Sequence[str], *, reason: str, stdin: bytes) -> bytes:
        answer = waiting.pop(0)
        waiting.append((command, reason, stdin))
        if isinstance(answer, EdgesealError):
            raise answer
        assert isinstance(answer, bytes)
        return answer

    monkeypatch.setattr(netfilter, "run", run)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    return waiting


def test_both_listings_come_back(answers: list[object]) -> None:
    answers.append(b'inet t input 1\n\0\n{"nftables": []}\n\0\n')
    listing = load_and_list(b"table inet t {}", tools=TOOLS, name="a ruleset")
    assert (listing.text, listing.objects) == ("inet t input 1\n", '{"nftables": []}\n')


def test_the_sandbox_has_namespaces_of_its_own_and_one_right_over_them(answers: list[object]) -> None:
    answers.append(b"\0\n\0\n")
    load_and_list(b"table inet t {}", tools=TOOLS, name="a ruleset")
    ((command, reason, stdin),) = answers  # type: ignore[misc]
    assert "--unshare-all" in command and "--share-net" not in command
    assert command[command.index("--cap-add") + 1] == "CAP_NET_ADMIN"
    assert command.count("--cap-add") == 1
    assert (reason, stdin) == ("load a ruleset into a network namespace", b"table inet t {}")


REFUSED = (
    (
        "cannot load a ruleset into a network namespace: bwrap exited 1: bwrap: No permissions to create new namespace",
        "this machine lends no user and network namespace: sysctl kernel.unprivileged_userns_clone=1, or be root",
    ),
    (
        "cannot load a ruleset into a network namespace: bwrap exited 1: /dev/stdin:1:7-10: Error: syntax error",
        "the line that nft does not take is in its own words above; is the kernel's nf_tables there?",
    ),
)


@pytest.mark.parametrize(("message", "hint"), REFUSED)
def test_a_refusal_is_an_input_error_and_never_a_skip(answers: list[object], message: str, hint: str) -> None:
    answers.append(EdgesealError(message))
    with pytest.raises(InputError) as caught:
        load_and_list(b"table", tools=TOOLS, name="a ruleset")
    assert (caught.value.message, caught.value.hint) == (message, hint)
