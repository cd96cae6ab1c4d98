"""Files of the root that follow from profile and keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from appliance.formats.identities import USERS
from appliance.update import service
from builder.host.paths import source_root
from builder.profile.load import decode_profile
from builder.rootfs.entries import Directory, File, RootPlan, Symlink
from builder.rootfs.files import (
    EXPORT_LABEL,
    EXPORT_MOUNT,
    EXPORT_UNIT,
    MEDIUM_MOUNT,
    VENDOR_ROOT,
    Sealed,
    manager_settings,
    os_release,
    profile_files,
    skeleton,
    static_files,
)

SEALED = Sealed(recovery_pem=b"PEM", ipe_policy=b"CMS", development=True)
PROFILE = decode_profile(
    (Path(__file__).parent / "data" / "line-3.yaml").read_bytes(), file="line-3.yaml", stem="line-3"
)


def lines(entry: object) -> list[str]:
    assert isinstance(entry, File)
    return entry.read().decode().splitlines()


def test_development_keys_mark_the_image() -> None:
    marked, unmarked = (lines(os_release(PROFILE, development=kind)) for kind in (True, False))
    assert "VARIANT_ID=development" in marked
    assert any(line.startswith("PRETTY_NAME=") and line.endswith(' DEVELOPMENT"') for line in marked)
    assert "VARIANT_ID=release" in unmarked
    assert "DEVELOPMENT" not in "".join(unmarked)


def test_what_the_keys_seal() -> None:
    plan = profile_files(PROFILE, SEALED)
    assert lines(plan["usr/lib/edgeseal/recovery.pub.pem"]) == ["PEM"]
    assert lines(plan["usr/lib/ipe/edgeseal.p7b"]) == ["CMS"]


def test_the_vendor_root_is_sealed_where_there_is_one() -> None:
    assert VENDOR_ROOT not in profile_files(PROFILE, SEALED)
    plan = profile_files(PROFILE, replace(SEALED, vendor_root=b"{}"))
    assert lines(plan[VENDOR_ROOT]) == ["{}"]
    assert Path("/", VENDOR_ROOT) == service.VENDOR_ROOT


def test_only_the_initrd_keeps_the_right_to_load_a_policy() -> None:
    dropped = "CapabilityBoundingSet=~CAP_MAC_ADMIN"
    assert dropped in lines(manager_settings(PROFILE, initrd=False))
    assert dropped not in lines(manager_settings(PROFILE, initrd=True))


def test_telemetry_is_off_for_every_service() -> None:
    assert any("ORT_DISABLE_TELEMETRY=1" in line for line in lines(manager_settings(PROFILE, initrd=False)))


def test_the_data_partition_is_encrypted_where_there_is_a_tpm() -> None:
    for tpm, word in (("required", "tpm2"), ("none", "off")):
        hardware = msgspec.structs.replace(PROFILE.hardware, tpm=tpm)
        plan = profile_files(msgspec.structs.replace(PROFILE, hardware=hardware), SEALED)
        assert f"Encrypt={word}" in lines(plan["usr/lib/repart.d/50-data.conf"])
        assert ("etc/crypttab" in plan) is (tpm == "required")
        assert "Options=rw,nosuid,nodev,noexec,noatime" in lines(plan["usr/lib/systemd/system/var.mount"])


def test_links_have_no_surprises() -> None:
    plan = profile_files(PROFILE, SEALED)
    networks = {path: lines(entry) for path, entry in plan.items() if path.endswith(".network")}
    assert networks
    for text in networks.values():
        assert {"DHCP=no", "IPv6AcceptRA=no", "LinkLocalAddressing=no", "LLMNR=no", "MulticastDNS=no"} <= set(text)


def with_usb(*classes: str, modules: tuple[str, ...] = ()) -> RootPlan:
    hardware = msgspec.structs.replace(
        PROFILE.hardware, usb_classes=classes, modules=(*PROFILE.hardware.modules, *modules)
    )
    return profile_files(msgspec.structs.replace(PROFILE, hardware=hardware), SEALED)


MOUNT = "usr/lib/systemd/system/run-edgeseal\\x2dmedium.mount"
RULE = "usr/lib/udev/rules.d/66-edgeseal-medium.rules"
EXPORT_MOUNT_UNIT = "usr/lib/systemd/system/run-edgeseal\\x2dexport.mount"
EXPORT_RULE = "usr/lib/udev/rules.d/66-edgeseal-export.rules"
DRIVERS = "usr/lib/modules-load.d/edgeseal-medium.conf"


def test_no_medium_where_mass_storage_is_not_let_in() -> None:
    plan = with_usb("0e", modules=("usb_storage",))
    assert not {MOUNT, RULE, DRIVERS, EXPORT_MOUNT_UNIT, EXPORT_RULE} & set(plan)


def test_a_medium_is_mounted_when_it_appears_and_nothing_on_it_runs() -> None:
    plan = with_usb("08", modules=("usb_storage", "uas"))
    assert "Options=ro,nosuid,nodev,noexec,noatime,nosymfollow,umask=0022,iocharset=ascii" in lines(plan[MOUNT])
    assert f"Where={MEDIUM_MOUNT}" in lines(plan[MOUNT])
    assert Path(MEDIUM_MOUNT) == service.MEDIUM
    assert "BindsTo=dev-disk-by\\x2dlabel-EDGESEAL.device" in lines(plan[MOUNT])
    assert lines(plan[RULE])[0].endswith(
        'ENV{ID_FS_LABEL}=="EDGESEAL", TAG+="systemd", ENV{SYSTEMD_WANTS}+="run-edgeseal\\x2dmedium.mount"'
    )
    assert lines(plan[DRIVERS]) == ["usb_storage", "uas"], "module loading is closed when the stick comes"


def test_a_medium_for_the_log_is_mounted_for_the_copy_alone() -> None:
    plan = with_usb("08")
    mount, owner = lines(plan[EXPORT_MOUNT_UNIT]), USERS["edgeseal-audit"]
    assert {"StopWhenUnneeded=yes", f"Where={EXPORT_MOUNT}", "Type=vfat"} <= set(mount)
    assert "BindsTo=dev-disk-by\\x2dlabel-EDGESEALLOG.device" in mount
    assert len(EXPORT_LABEL) == 11, "vfat has no longer ones"
    options = set(mount[-1].removeprefix("Options=").split(","))
    assert {"rw", "nosuid", "nodev", "noexec", "nosymfollow", "dirsync", "umask=0077"} <= options
    assert {f"uid={owner}", f"gid={owner}"} <= options
    [rule] = lines(plan[EXPORT_RULE])
    assert rule.endswith(f'ENV{{ID_FS_LABEL}}=="{EXPORT_LABEL}", TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="{EXPORT_UNIT}"')
    assert (source_root() / "appliance/units" / EXPORT_UNIT).is_file()


def test_a_medium_that_is_no_stick_needs_no_driver() -> None:
    plan = with_usb("08")
    assert MOUNT in plan
    assert DRIVERS not in plan


def test_the_kernel_images_belong_to_the_update_service() -> None:
    options = lines(static_files()["usr/lib/systemd/system/efi.mount"])[-1].removeprefix("Options=").split(",")
    assert {"nosuid", "nodev", "noexec", "nosymfollow", "umask=0007", "quiet"} <= set(options)
    assert [word for word in options if word.startswith(("uid=", "gid="))] == [
        "uid=0",
        f"gid={USERS['edgeseal-update']}",
    ]


def test_an_empty_root_has_its_mount_points_and_one_usr() -> None:
    plan = skeleton()
    assert isinstance(plan["proc"], Directory)
    assert plan["bin"] == Symlink("usr/bin")
    assert plan["usr/lib/systemd/system/ctrl-alt-del.target"] == Symlink("/dev/null")


def test_what_is_set_for_connections_finds_its_module() -> None:
    """systemd-sysctl comes behind systemd-modules-load; nft, which would load the module as well, comes later."""
    settings = lines(static_files()["usr/lib/sysctl.d/90-edgeseal.conf"])
    assert [line for line in settings if line.startswith("net.netfilter.")] == [
        "net.netfilter.nf_conntrack_tcp_loose = 0"
    ]
    assert "nf_conntrack" in lines(static_files()["usr/lib/modules-load.d/edgeseal-conntrack.conf"])


def test_nothing_static_can_be_executed() -> None:
    assert {entry.mode for entry in static_files().values() if isinstance(entry, File)} == {0o644}
