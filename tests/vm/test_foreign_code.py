"""Root on the device is not enough to run code that the vendor did not seal: IPE, dm-verity and closed modules."""

from __future__ import annotations

import pytest

from tests.support.machine import Machine

pytestmark = pytest.mark.xdist_group("vm-thawed")

REFUSED = 13  # EACCES
NOT_PERMITTED = 1  # EPERM
PROGRAM = "/usr/bin/systemctl"


@pytest.mark.parametrize("place", ["/var/lib", "/run", "/dev/shm", "/tmp"])
def test_a_program_that_is_not_in_the_sealed_root_does_not_start(vm: Machine, place: str) -> None:
    mount = "/" + place.split("/")[1] if place != "/dev/shm" else place
    _allow_execution(vm, mount)
    vm.write(f"{place}/intruder", vm.read(PROGRAM), mode=0o755)
    assert vm.succeed([PROGRAM, "--version"])
    assert vm.python(_exec(f"{place}/intruder")) == REFUSED


def test_a_program_in_anonymous_memory_does_not_start(vm: Machine) -> None:
    assert (
        vm.python(
            "import os\n"
            "handle = os.memfd_create('intruder')\n"
            f"os.write(handle, open({PROGRAM!r}, 'rb').read())\n" + _exec("/proc/self/fd/{handle}", f_string=True)
        )
        == REFUSED
    )


def test_a_script_with_a_sealed_interpreter_does_not_start(vm: Machine) -> None:
    _allow_execution(vm, "/run")
    vm.write("/run/intruder", b"#!/usr/bin/python3\nprint('here')\n", mode=0o755)
    assert vm.python(_exec("/run/intruder")) == REFUSED


def test_a_library_that_is_not_in_the_sealed_root_is_not_loaded(vm: Machine) -> None:
    _allow_execution(vm, "/run")
    said = vm.python(
        "import ctypes, glob, shutil\n"
        "genuine = glob.glob('/usr/lib/*-linux-gnu/libz.so.1')[0]\n"
        "ctypes.CDLL(genuine)\n"
        "shutil.copyfile(genuine, '/run/libintruder.so')\n"
        "try:\n"
        "    ctypes.CDLL('/run/libintruder.so')\n"
        "    result = 'loaded'\n"
        "except OSError as error:\n"
        "    result = str(error)"
    )
    assert "failed to map segment" in said


def test_no_module_is_loaded_any_more_and_that_cannot_be_undone(vm: Machine) -> None:
    assert vm.text("/proc/sys/kernel/modules_disabled") == "1"
    assert vm.python(_write("/proc/sys/kernel/modules_disabled", "0")) != 0
    genuine = vm.python(
        "import pathlib, os\n"
        "names = sorted(str(p) for p in pathlib.Path('/usr/lib/modules').rglob('*.ko*'))\n"
        "loaded = {line.split()[0] for line in open('/proc/modules')}\n"
        "result = [n for n in names if os.path.basename(n).split('.')[0].replace('-', '_') not in loaded][0]"
    )
    assert "Operation not permitted" in vm.fail(["modprobe", genuine.rsplit("/", 1)[1].split(".")[0]])


def test_the_policy_cannot_be_switched_off_replaced_or_removed(vm: Machine) -> None:
    policy = "/sys/kernel/security/ipe/policies/edgeseal"
    assert vm.text("/sys/kernel/security/ipe/enforce") == "1"
    assert vm.text(f"{policy}/active") == "1"
    assert vm.python(_write("/sys/kernel/security/ipe/enforce", "0")) == NOT_PERMITTED
    assert vm.python(_write(f"{policy}/delete", "1")) == NOT_PERMITTED
    assert vm.python(_write(f"{policy}/active", "0")) == NOT_PERMITTED
    assert vm.python(_write("/sys/kernel/security/ipe/new_policy", "x")) == NOT_PERMITTED
    assert vm.text("/sys/kernel/security/ipe/enforce") == "1"


def test_another_kernel_cannot_be_loaded(vm: Machine) -> None:
    assert vm.text("/proc/sys/kernel/kexec_load_disabled") == "1"
    assert vm.python(_write("/proc/sys/kernel/kexec_load_disabled", "0")) != 0


def test_the_sealed_root_cannot_be_written(vm: Machine) -> None:
    assert vm.run(["mount", "-o", "remount,rw", "/"]).rc != 0
    assert vm.python(_write("/usr/lib/os-release", "x")) == 30  # EROFS


def _allow_execution(vm: Machine, mount: str) -> None:
    """Take the mount's `noexec` away, as an intruder with root would: what refuses then is IPE."""
    vm.succeed(["mount", "-o", "remount,exec", mount])
    options = {line.split()[1]: line.split()[3] for line in vm.text("/proc/mounts").splitlines()}
    assert "noexec" not in options[mount].split(",")


def _exec(path: str, *, f_string: bool = False) -> str:
    """Source: the errno with which starting `path` fails, or 0."""
    literal = f"f{path!r}" if f_string else repr(path)
    return (
        "import os\n"
        "try:\n"
        f"    pid = os.posix_spawn({literal}, ['x', '--version'], {{}})\n"
        "    os.waitpid(pid, 0)\n"
        "    result = 0\n"
        "except OSError as error:\n"
        "    result = error.errno\n"
    )


def _write(path: str, text: str) -> str:
    """Source: the errno with which writing `text` to `path` fails, or 0."""
    return (
        "import os\n"
        "try:\n"
        f"    handle = os.open({path!r}, os.O_WRONLY)\n"
        f"    os.write(handle, {text.encode()!r})\n"
        "    result = 0\n"
        "except OSError as error:\n"
        "    result = error.errno\n"
    )
