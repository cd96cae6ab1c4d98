"""The TPM of a machine: swtpm, with a state directory of its own and the SHA-256 bank only (it boots faster)."""

from __future__ import annotations

from pathlib import Path

from builder.host.child import Child
from builder.host.sandbox import Sandbox
from builder.vm.channel import check_socket_path
from builder.vm.deadline import wait_until

_START_S = 30.0


def manufacture_tpm(state: Path, tree: Sandbox) -> None:
    """Make a fresh TPM in the empty directory `state`."""
    state.mkdir(mode=0o700)
    tree.run(
        ["swtpm_setup", "--tpm2", "--tpmstate", state, "--pcr-banks", "sha256", "--config", _configuration(state)],
        reason="manufacture a virtual TPM",
        writable=[state],
    )


def _configuration(state: Path) -> Path:
    """swtpm_setup.conf(5) without the certificate authority that it would make: nobody here checks the EK."""
    path = state / "setup.conf"
    path.write_text("active_pcr_banks = sha256\n")
    return path


def start_tpm(state: Path, socket: Path, log: Path, tree: Sandbox) -> Child:
    """Run the TPM until the emulator hangs up. socket: its control socket, made here."""
    check_socket_path(socket)
    words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"]
    words += ["--ctrl", f"type=unixio,path={socket}", "--terminate"]
    command = tree.command(words, writable=sorted({state, socket.parent}))
    child = Child(command, reason="run the virtual TPM", log=log)
    wait_until(socket.exists, what="the virtual TPM starts", within_s=_START_S, check=child.require_alive)
    return child
