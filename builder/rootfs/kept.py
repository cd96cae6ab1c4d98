"""What of the packages gets into the root: an allow-list for everything that can run, a drop-list for the rest.

Least function (IEC 62443-4-2 CR 7.7): a program, unit, generator, rule or tmpfiles fragment that is not named here is
not in the image.
"""

from __future__ import annotations

import re

PROGRAMS = frozenset(
    {
        "journalctl",  # reads the journal for the evidence export
        "kmod",
        "mount",
        "python3",
        "python3.13",
        "systemctl",
        "systemd-creds",  # decrypts encrypted credentials
        "systemd-cryptenroll",  # adds the recovery slot at first boot
        "systemd-cryptsetup",
        "systemd-repart",
        "systemd-sysusers",
        "systemd-tmpfiles",
        "udevadm",
        "umount",
    }
)
ADMIN_PROGRAMS = frozenset({"dmsetup", "e2fsck", "fsck.ext4", "mke2fs", "mkfs.ext4", "modprobe", "nft"})

SYSTEMD_HELPERS = frozenset(
    """systemd systemd-bless-boot systemd-cgroups-agent systemd-cryptsetup systemd-executor systemd-fsck
    systemd-journald systemd-makefs systemd-modules-load systemd-networkd systemd-networkd-wait-online
    systemd-pcrextend systemd-pstore systemd-random-seed systemd-remount-fs systemd-shutdown systemd-sysctl
    systemd-sysroot-fstab-check
    systemd-tpm2-setup systemd-udevd systemd-veritysetup systemd-volatile-root""".split()
)
GENERATORS = frozenset(
    """systemd-bless-boot-generator systemd-cryptsetup-generator systemd-fstab-generator systemd-tpm2-generator
    systemd-veritysetup-generator""".split()
)

UNITS = frozenset(
    """basic.target blockdev@.target boot-complete.target cryptsetup-pre.target cryptsetup.target
    emergency.target final.target first-boot-complete.target initrd-cleanup.service initrd-fs.target
    initrd-parse-etc.service initrd-root-device.target initrd-root-fs.target initrd-switch-root.service
    initrd-switch-root.target initrd-udevadm-cleanup-db.service initrd-usr-fs.target initrd.target
    kmod-static-nodes.service local-fs-pre.target local-fs.target modprobe@.service multi-user.target
    network-online.target network-pre.target network.target paths.target poweroff.target reboot.target
    remote-fs-pre.target remote-fs.target rescue.target shutdown.target sigpwr.target slices.target sockets.target
    swap.target sysinit.target system-systemd\\x2dcryptsetup.slice system-systemd\\x2dveritysetup.slice
    systemd-bless-boot.service systemd-fsck@.service systemd-journal-flush.service
    systemd-journald-dev-log.socket systemd-journald.service systemd-journald.socket systemd-modules-load.service
    systemd-networkd.service systemd-networkd.socket systemd-pcrextend.socket systemd-pcrextend@.service
    systemd-pcrmachine.service systemd-pcrphase-initrd.service systemd-pcrphase-sysinit.service
    systemd-pcrphase.service systemd-poweroff.service systemd-pstore.service systemd-random-seed.service
    systemd-reboot.service systemd-remount-fs.service systemd-repart.service systemd-sysctl.service
    systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup.service
    systemd-tmpfiles-clean.service systemd-tmpfiles-clean.timer systemd-tpm2-setup-early.service
    systemd-tpm2-setup.service systemd-udev-trigger.service systemd-udevd-control.socket
    systemd-udevd-kernel.socket systemd-udevd.service systemd-volatile-root.service time-set.target
    time-sync.target timers.target tmp.mount tpm2.target umount.target user.slice machine.slice
    veritysetup-pre.target veritysetup.target dev-hugepages.mount dev-mqueue.mount halt.target
    system-update-pre.target""".split()
)
# Links that packages ship in *.wants directories; everything else in them goes.
WANTED = frozenset(
    """cryptsetup.target kmod-static-nodes.service systemd-journal-flush.service systemd-journald.service
    systemd-journald.socket systemd-journald-dev-log.socket systemd-modules-load.service systemd-pcrextend.socket
    systemd-pcrmachine.service systemd-pcrphase-sysinit.service systemd-pcrphase.service
    systemd-pcrphase-initrd.service systemd-random-seed.service systemd-sysctl.service
    systemd-tmpfiles-clean.timer systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service
    systemd-tmpfiles-setup.service systemd-tpm2-setup-early.service systemd-tpm2-setup.service
    systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd.service
    tmp.mount veritysetup.target""".split()
)
UDEV_HELPERS = frozenset({"ata_id", "scsi_id", "v4l_id"})
UDEV_RULES = frozenset(
    """50-udev-default.rules 55-dm.rules 60-block.rules 60-persistent-storage-dm.rules 60-persistent-storage.rules
    95-dm-notify.rules 60-persistent-v4l.rules 60-serial.rules
    75-net-description.rules 80-drivers.rules 80-net-setup-link.rules 99-systemd.rules""".split()
)
TMPFILES = frozenset({"20-systemd-stub.conf", "static-nodes-permissions.conf", "systemd-pstore.conf", "tmp.conf"})

_ALLOW: tuple[tuple[str, frozenset[str]], ...] = (
    ("usr/bin/", PROGRAMS),
    ("usr/sbin/", ADMIN_PROGRAMS),
    ("usr/lib/systemd/system-generators/", GENERATORS),
    ("usr/lib/udev/rules.d/", UDEV_RULES),
    ("usr/lib/tmpfiles.d/", TMPFILES),
    ("usr/lib/sysusers.d/", frozenset()),
    ("usr/libexec/", frozenset()),
    ("etc/", frozenset({"mke2fs.conf"})),
)
_DROPPED_PREFIXES = (
    "boot/",
    "usr/games/",
    "usr/include/",
    "usr/lib/kernel/",
    "usr/lib/modprobe.d/",
    "usr/lib/modules-load.d/",
    "usr/lib/modules/",  # the chosen ones are added by builder/rootfs/modules.py
    "usr/lib/pam.d/",
    "usr/lib/python3.13/config-3.13",
    "usr/lib/python3.13/ensurepip/",
    "usr/lib/python3.13/idlelib/",
    "usr/lib/python3.13/pydoc_data/",
    "usr/lib/python3.13/test/",
    "usr/lib/python3.13/turtledemo/",
    "usr/lib/python3.13/venv/",
    "usr/lib/python3.13/wsgiref/",
    "usr/lib/python3.13/unittest/",
    "usr/lib/python3.13/tkinter/",
    "usr/lib/python3.13/_pyrepl/",
    "usr/lib/python3.13/dbm/",
    "usr/lib/python3.13/curses/",
    "usr/lib/sysctl.d/",
    "usr/lib/systemd/boot/",
    "usr/lib/systemd/catalog/",
    "usr/lib/systemd/network/",
    "usr/lib/systemd/ntp-units.d/",
    "usr/lib/systemd/profile.d/",
    "usr/lib/systemd/repart/",
    "usr/lib/systemd/ssh_config.d/",
    "usr/lib/systemd/system-environment-generators/",
    "usr/lib/systemd/system-preset/",
    "usr/lib/systemd/system-shutdown/",
    "usr/lib/systemd/system-sleep/",
    "usr/lib/systemd/user",
    "usr/lib/udev/hwdb.d/",
    "usr/lib/valgrind/",
    "usr/lib/init/",
    "usr/lib/lsb/",
    "usr/lib/terminfo/",
    "usr/lib/e2fsprogs/",
    "usr/lib/dbus-1.0/",
    "usr/lib/environment.d/",
    "usr/lib/mime/",
    "usr/share/",
    "usr/src/",
    "var/",
    "home/",
    "opt/",
    "root/",
    "media/",
    "mnt/",
    "srv/",
)
_DROPPED = re.compile(
    r"/gconv/|/libdb-|/libreadline|/libhistory|/libss\.|/libtss2-tcti-(cmd|mssim|swtpm|pcap)|/libmvec|/libnsl|/libnss_(hesiod|compat)"
    r"|/security/|/libpamc|/libpam_misc|/libform|/libmenu|/libpanel|\.a$|\.h$|\.pyc$|/__pycache__/"
    r"|/lib-dynload/(_test|_ctypes_test|_xx|xx|_dbm|_gdbm|_curses|readline|_tkinter|nis|ossaudiodev)"
    r"|/x86_64-linux-gnu/libthread_db|/libBrokenLocale|/libpcprofile|/libmemusage"
)
_WHEEL_DROPPED = re.compile(
    r"(^|/)tests?/|(^|/)testing/|\.pyi$|\.h$|\.a$|\.lib$|\.pxd$|\.pyx$|\.c$|\.f$|\.f90$"
    r"|^numpy/(f2py|distutils|doc|_pyinstaller)/|^numpy/_core/(include|lib)/"
    r"|^onnxruntime/(transformers|tools|quantization|datasets|backend)/|_test[s]?\.cpython|_rational_tests"
    r"|^securesystemslib/_vendor/(README|test-|ed25519/(\.git|LICENSE|README|science|test_))|^tuf/repository/"
    r"|^urllib3/(contrib|http2/connection)|^zstandard/(_cffi\.|backend_cffi)|^google/protobuf/compiler/"
    r"|^paho/mqtt/.*\.typed$|\.dist-info/(licenses|RECORD|INSTALLER|REQUESTED|direct_url|top_level|entry_points)"
)


# Libraries that no package has: the vendor of a board supplies them, or what needs them does not load.
FROM_THE_BOARD = frozenset({"libcdsprpc.so"})  # Qualcomm's FastRPC, between the processor and the Hexagon NPU


def keep_of_package(path: str) -> bool:
    """Whether a path of a Debian package belongs into the root. path: relative, /usr merged."""
    if path.startswith("usr/lib/systemd/system/"):
        return _keep_unit(path.removeprefix("usr/lib/systemd/system/"))
    if path.startswith("usr/lib/systemd/systemd") and path.count("/") == 3:
        return path.rsplit("/", 1)[1] in SYSTEMD_HELPERS
    if path.startswith("usr/lib/udev/") and path.count("/") == 3:
        return path.rsplit("/", 1)[1] in UDEV_HELPERS | {"rules.d"}
    for prefix, names in _ALLOW:
        if path.startswith(prefix):
            return path.removeprefix(prefix) in names
    return not path.startswith(_DROPPED_PREFIXES) and not _DROPPED.search(path)


def _keep_unit(name: str) -> bool:
    folder, _, link = name.rpartition("/")
    if folder.endswith((".wants", ".requires")):
        return link in WANTED
    return not folder and (name in UNITS or name in ("default.target", "ctrl-alt-del.target"))


def keep_of_wheel(path: str) -> bool:
    """Whether a path of a wheel belongs into the root; models are taken out of their wheels elsewhere."""
    return not _WHEEL_DROPPED.search(path)
