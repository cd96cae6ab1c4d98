"""The files of the root that follow from the profile and the keys. Pure: a plan, no disk.

Nothing here names a board; what does stands in the profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.formats.device import DEVICE_CONFIG_PATH, encode_device_config
from appliance.formats.identities import USERS
from appliance.formats.network_policy import NETWORK_POLICY_PATH, encode_network_policy
from builder.network.ruleset import compile_ruleset
from builder.profile.rules_board import MASS_STORAGE, STICK_MODULES
from builder.profile.types import Profile
from builder.rootfs.entries import Directory, File, RootPlan, Symlink, text
from builder.rootfs.network_files import network_files
from builder.rootfs.tree import scan

STATIC = Path(__file__).parent / "static"
LIBRARY_DIRECTORY = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
SERVICE_UIDS = {name.removeprefix("edgeseal-"): uid for name, uid in USERS.items()}
VENDOR_ROOT = "usr/lib/edgeseal/vendor-root.json"
MEDIUM_LABEL = "EDGESEAL"
MEDIUM_MOUNT = "/run/edgeseal-medium"
MEDIUM_MODULES = (*STICK_MODULES, "uas")
EXPORT_LABEL = "EDGESEALLOG"
EXPORT_MOUNT = "/run/edgeseal-export"
EXPORT_UNIT = "edgeseal-audit-export.service"
MOUNT_POINTS = ("dev", "efi", "proc", "run", "sys", "tmp", "var")


@dataclass(frozen=True)
class Sealed:
    """What the keys put into the root.

    recovery_pem: the owner's recovery public key. ipe_policy: signed policy (CMS, DER). development: made with
    development keys. vendor_root: the TUF root of the vendor's repository; without it the device takes no updates.
    """

    recovery_pem: bytes
    ipe_policy: bytes
    development: bool
    vendor_root: bytes | None = None


def static_files() -> RootPlan:
    """Files that are the same for every profile."""
    return {path: entry for path, entry in scan(STATIC).items() if isinstance(entry, File)}


def skeleton() -> RootPlan:
    """Directories and links of an empty root."""
    plan: RootPlan = {name: Directory() for name in MOUNT_POINTS}
    plan["root"] = Directory(mode=0o700)
    del plan["var"]
    plan["var/tmp"] = Directory(mode=0o700)  # sandboxes of units that start before /var is mounted cover it
    plan |= {name: Symlink(f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")}
    plan["etc/os-release"] = Symlink("../usr/lib/os-release")
    plan["etc/mtab"] = Symlink("../proc/self/mounts")
    plan["usr/lib/systemd/system/default.target"] = Symlink("multi-user.target")
    plan["usr/lib/systemd/system/ctrl-alt-del.target"] = Symlink("/dev/null")
    # The initrd opened the root. Here the unit could only be stopped: its device blinks while udev looks at it again.
    plan["etc/systemd/system-generators/systemd-veritysetup-generator"] = Symlink("/dev/null")
    return plan


def profile_files(profile: Profile, sealed: Sealed) -> RootPlan:
    """Everything that the profile decides, the kernel modules and packages aside."""
    return {
        "usr/lib/os-release": os_release(profile, development=sealed.development),
        "usr/lib/clock-epoch": File(content=b""),  # its time, the build's epoch, is the earliest that systemd believes
        DEVICE_CONFIG_PATH.lstrip("/"): File(
            content=encode_device_config(profile.device_config(development=sealed.development))
        ),
        NETWORK_POLICY_PATH.lstrip("/"): File(content=encode_network_policy(profile.network)),
        "usr/lib/edgeseal/nftables.conf": File(
            content=compile_ruleset(profile.network, name=profile.name, uids=SERVICE_UIDS)
        ),
        "usr/lib/edgeseal/recovery.pub.pem": File(content=sealed.recovery_pem),
        "usr/lib/ipe/edgeseal.p7b": File(content=sealed.ipe_policy),
        "usr/lib/systemd/system.conf.d/edgeseal.conf": manager_settings(profile, initrd=False),
        "usr/lib/systemd/system/multi-user.target.d/edgeseal.conf": boot_deadline(
            profile.health.deadline_s + profile.timeout_s
        ),
        "usr/lib/udev/rules.d/10-edgeseal-usb.rules": usb_rules(profile),
        **({VENDOR_ROOT: File(content=sealed.vendor_root)} if sealed.vendor_root is not None else {}),
        **_data_files(profile),
        **_medium_files(profile),
        **network_files(profile.network),
    }


def os_release(profile: Profile, *, development: bool) -> File:
    """os-release(5). VARIANT_ID says `development` in an image that development keys signed."""
    return text(
        "ID=edgeseal",
        "ID_LIKE=debian",
        "NAME=edgeseal",
        f'PRETTY_NAME="edgeseal {profile.product} {profile.version}{" DEVELOPMENT" if development else ""}"',
        f"IMAGE_ID={profile.product}",
        f"IMAGE_VERSION={profile.version}",
        f"VARIANT_ID={'development' if development else 'release'}",
        f"VERSION_ID={profile.version}",
        *([f"SUPPORT_END={profile.support_until}"] if profile.support_until else []),
    )


def manager_settings(profile: Profile, *, initrd: bool) -> File:
    """systemd-system.conf(5) of the root, or of the initrd.

    CAP_MAC_ADMIN would let root switch IPE off. The initrd's manager must keep it: what it drops, the root's manager
    lacks when it loads the policy.
    """
    return text(
        "[Manager]",
        *([] if initrd else ["CapabilityBoundingSet=~CAP_MAC_ADMIN"]),
        "CrashAction=reboot",
        "CtrlAltDelBurstAction=none",
        "DefaultEnvironment=CRYPTOGRAPHY_OPENSSL_NO_LEGACY=1 ORT_DISABLE_TELEMETRY=1",
        "DefaultLimitCORE=0",
        f"DefaultTimeoutStartSec={profile.timeout_s}",
        f"DefaultDeviceTimeoutSec={profile.timeout_s}",
        "DumpCore=no",
        f"RuntimeWatchdogSec={profile.hardware.watchdog_s}",
        f"RebootWatchdogSec={profile.hardware.watchdog_s}",
        "StatusUnitFormat=name",
    )


def boot_deadline(seconds: int) -> File:
    """For the target that a boot aims at: what hangs for so long ends in a reboot, never in a wait without end."""
    return text("[Unit]", f"JobTimeoutSec={seconds}", "JobTimeoutAction=reboot-force")


def usb_rules(profile: Profile) -> File:
    """The kernel leaves every USB device unauthorised (kernel command line); udev asks our judge, if there is a rule.

    Class is what the interfaces say, which a udev rule cannot read of a device that is not authorised.
    """
    if not profile.hardware.usb_classes:
        return text("# The profile names no USB class: no device is let in.")
    judge = "/usr/bin/python3 -I -m appliance.usb"
    return text(
        f'ACTION=="add", SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", ATTR{{authorized}}=="0", RUN+="{judge} %p"'
    )


def _data_files(profile: Profile) -> RootPlan:
    encrypted = profile.hardware.tpm == "required"
    device = "/dev/mapper/data" if encrypted else "/dev/disk/by-partlabel/data"
    plan: RootPlan = {
        "usr/lib/repart.d/50-data.conf": text(
            "[Partition]",
            "Type=linux-generic",
            "Label=data",
            "Format=ext4",
            f"Encrypt={'tpm2' if encrypted else 'off'}",
            f"SizeMinBytes={profile.disk.data_minimum}M",
        ),
        "usr/lib/systemd/system/var.mount": text(
            "[Unit]",
            "Description=Data partition",
            "DefaultDependencies=no",
            "Conflicts=umount.target",
            "Before=local-fs.target umount.target systemd-random-seed.service systemd-journal-flush.service",
            "Wants=systemd-repart.service",
            "After=systemd-repart.service blockdev@dev-mapper-data.target",
            "",
            "[Mount]",
            f"What={device}",
            "Where=/var",
            "Type=ext4",
            "Options=rw,nosuid,nodev,noexec,noatime",
        ),
        "usr/lib/systemd/system/local-fs.target.requires/var.mount": Symlink("../var.mount"),
        "usr/lib/systemd/system/systemd-repart.service.d/order.conf": text(
            "# the unlock of the data partition must find it made",
            "[Unit]",
            "Before=systemd-cryptsetup@data.service cryptsetup.target local-fs-pre.target",
        ),
        "usr/lib/systemd/system/sysinit.target.wants/systemd-repart.service": Symlink("../systemd-repart.service"),
    }
    if encrypted:
        plan["etc/crypttab"] = text("data /dev/disk/by-partlabel/data none luks,tpm2-device=auto,headless=yes,discard")
    return plan


def _medium_files(profile: Profile) -> RootPlan:
    """Removable media, for updates and for the audit log: only where the profile lets mass storage in."""
    if MASS_STORAGE not in profile.hardware.usb_classes:
        return {}
    units, device = "usr/lib/systemd/system", f"dev-disk-by\\x2dlabel-{MEDIUM_LABEL}.device"
    mount = "run-edgeseal\\x2dmedium.mount"
    drivers = [name for name in MEDIUM_MODULES if name in profile.hardware.modules]
    plan: RootPlan = {
        f"{units}/{mount}": text(
            "# What is on it is trusted as little as what comes over the network.",
            "[Unit]",
            "Description=Removable medium with updates",
            "DefaultDependencies=no",
            f"BindsTo={device}",
            f"After={device}",
            "Conflicts=umount.target",
            "Before=umount.target",
            "",
            "[Mount]",
            f"What=/dev/disk/by-label/{MEDIUM_LABEL}",
            f"Where={MEDIUM_MOUNT}",
            "Type=vfat",
            "Options=ro,nosuid,nodev,noexec,noatime,nosymfollow,umask=0022,iocharset=ascii",
        ),
        # and not a link in the device's wants: those count for what comes later, not for what was there before PID 1
        "usr/lib/udev/rules.d/66-edgeseal-medium.rules": text(
            f'SUBSYSTEM=="block", ENV{{ID_FS_TYPE}}=="vfat", ENV{{ID_FS_LABEL}}=="{MEDIUM_LABEL}", '
            f'TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="{mount}"'
        ),
        **_export_files(),
    }
    if drivers:
        # after the boot no module can be loaded, and a stick comes later
        plan["usr/lib/modules-load.d/edgeseal-medium.conf"] = text(*drivers)
    return plan


def _export_files() -> RootPlan:
    """A medium for the audit log is mounted for the copy, and not longer: then it can be pulled out."""
    units, device = "usr/lib/systemd/system", f"dev-disk-by\\x2dlabel-{EXPORT_LABEL}.device"
    owner = USERS["edgeseal-audit"]
    options = (
        "rw,nosuid,nodev,noexec,noatime,nosymfollow",
        "dirsync",  # a name before what it replaces is given free: appliance/export/medium.py
        f"uid={owner},gid={owner},umask=0077,iocharset=ascii",
    )
    return {
        f"{units}/run-edgeseal\\x2dexport.mount": text(
            "# What is on it is trusted as little as what comes over the network.",
            "[Unit]",
            "Description=Removable medium for the audit log",
            "DefaultDependencies=no",
            f"BindsTo={device}",
            f"After={device}",
            "Conflicts=umount.target",
            "Before=umount.target",
            "StopWhenUnneeded=yes",
            "",
            "[Mount]",
            f"What=/dev/disk/by-label/{EXPORT_LABEL}",
            f"Where={EXPORT_MOUNT}",
            "Type=vfat",
            f"Options={','.join(options)}",
        ),
        "usr/lib/udev/rules.d/66-edgeseal-export.rules": text(
            f'SUBSYSTEM=="block", ENV{{ID_FS_TYPE}}=="vfat", ENV{{ID_FS_LABEL}}=="{EXPORT_LABEL}", '
            f'TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="{EXPORT_UNIT}"'
        ),
    }
