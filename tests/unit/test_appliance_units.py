"""The units of the services against what the code and the promises say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.audit.facts import PUBLIC_CREDENTIALS
from appliance.audit.service import Settings as AuditSettings
from appliance.export.service import Settings as ExportSettings
from appliance.formats.audit_event import AUDIT_SOCKET, AUDIT_TAKES_EVENTS
from appliance.formats.identities import CLIENTS_GROUP, OFFLINE_USERS, TPM_GROUP, USERS
from appliance.formats.judgement import JUDGEMENT_PATH
from appliance.formats.site_network import SITE_NETWORK_CREDENTIAL
from appliance.formats.update_state import STATE_PATH
from appliance.formats.uplink_message import UPLINK_SOCKET
from appliance.network.keeper import SERVICES as WATCHED
from appliance.network.keeper import TABLE
from appliance.network.settings import Settings
from appliance.update.counter import TPM_DEVICE
from builder.disk.layout import LABELS
from builder.host.paths import source_root
from builder.network.ruleset import SERVICES as SERVICES_WITH_SETS
from builder.rootfs.files import EXPORT_MOUNT, EXPORT_UNIT

UNITS = source_root() / "appliance" / "units"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
ACTIONS = {
    "edgeseal-fallback.service": "reboot",
    "edgeseal-halt.service": "poweroff",
    "edgeseal-reboot.service": "reboot",
}
"""They run no program: systemd itself does it."""
PULLED_IN_BY_UDEV = "edgeseal-audit-export.service"
SANDBOXED = [name for name in SERVICES if name not in ("edgeseal-agent.service", *ACTIONS)]
NETWORKED = ("edgeseal-uplink.service", "edgeseal-update.service")
LISTENERS = ("edgeseal-network.service", "edgeseal-ruleset.service", "edgeseal-watch.service")
"""They speak to the kernel in the device's network (packet filter, audit records), and to nobody on it."""
PYTHON = "/usr/bin/python3 -I -m appliance."


def settings(name: str) -> dict[str, list[str]]:
    """KEY -> values of one unit file."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_users_have_the_same_numbers_everywhere() -> None:
    text = (UNITS / "edgeseal.sysusers").read_text()
    users = {name: int(number) for name, number in re.findall(r"^u (\S+) (\d+) ", text, re.MULTILINE)}
    groups = [(name, int(number)) for name, number in re.findall(r"^g (\S+) (\d+)", text, re.MULTILINE)]
    assert users == USERS | OFFLINE_USERS
    assert groups == [CLIENTS_GROUP, TPM_GROUP]
    assert text.count("/usr/sbin/nologin") == len(users)


def test_every_unit_is_enabled_or_pulled_in() -> None:
    presets = "".join(path.read_text() for path in sorted(UNITS.glob("*.preset")))
    enabled = re.findall(r"^enable (\S+)$", presets, re.MULTILINE)
    assert len(enabled) == len(set(enabled))
    for path in UNITS.iterdir():
        started_otherwise = (*ACTIONS, PULLED_IN_BY_UDEV)
        if path.suffix in (".service", ".socket", ".target", ".path") and path.name not in started_otherwise:
            assert path.name in enabled
            assert "[Install]" in path.read_text()
    assert PULLED_IN_BY_UDEV == EXPORT_UNIT
    assert PULLED_IN_BY_UDEV not in enabled
    assert "[Install]" not in (UNITS / PULLED_IN_BY_UDEV).read_text()
    assert settings("edgeseal-health.service")["OnFailure"] == ["edgeseal-fallback.service"]
    assert {"edgeseal-reboot.path", "edgeseal-halt.path"} <= set(enabled)  # of the services of that name


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_a_unit_that_ends_the_boot_runs_nothing(name: str) -> None:
    text = (UNITS / name).read_text()
    assert f"SuccessAction={ACTIONS[name]}" in text
    assert "Exec" not in text


def test_the_agent_is_apart_from_everything_else() -> None:
    """The builder leaves out whatever has `agent` in its name; nothing else may need it."""
    for path in UNITS.iterdir():
        if "agent" not in path.name:
            assert "agent" not in path.read_text()


@pytest.mark.parametrize("name", SANDBOXED)
def test_every_service_is_confined(name: str) -> None:
    found = settings(name)
    for key in ("NoNewPrivileges", "MemoryDenyWriteExecute", "LockPersonality", "RestrictSUIDSGID"):
        assert found[key] == ["yes"], key
    for key in ("ProtectKernelTunables", "ProtectKernelModules", "ProtectClock", "RestrictNamespaces"):
        assert found[key] == ["yes"], key
    assert found["ProtectSystem"] == ["strict"]
    assert found["SystemCallArchitectures"] == ["native"]
    assert found["CapabilityBoundingSet"][0] in ("", "CAP_NET_ADMIN", "CAP_IPC_LOCK", "CAP_AUDIT_READ CAP_SYSLOG")
    assert found["LimitCORE"] == ["0"]
    assert "User" in found


@pytest.mark.parametrize("name", [name for name in SANDBOXED if name not in LISTENERS])
def test_who_has_the_internet(name: str) -> None:
    families = settings(name)["RestrictAddressFamilies"][0].split()
    internet = {"AF_INET", "AF_INET6"} & set(families)
    assert bool(internet) == (name in NETWORKED)
    assert ("PrivateNetwork" in settings(name)) == (not internet)


def test_python_only_runs_our_modules_isolated() -> None:
    for name in SERVICES:
        for command in settings(name).get("ExecStart", []):
            if "python" in command:
                assert command.startswith(PYTHON)
                module = command.removeprefix(PYTHON).split()[0]
                assert (source_root() / "appliance" / module / "__main__.py").is_file()


@pytest.mark.parametrize("name", sorted(USERS | OFFLINE_USERS))
def test_long_running_services_are_watched_and_start_again_for_ever(name: str) -> None:
    found = settings(f"{name}.service")
    assert found["Type"] == ["notify"]
    assert int(found["WatchdogSec"][0]) >= 60
    assert found["Restart"] == ["on-failure"]
    assert found["StartLimitIntervalSec"] == ["0"]
    assert "TimeoutStartSec" not in found  # the profile's timeout_s holds
    assert found["User"] == [name]


@pytest.mark.parametrize(
    ("unit", "path"), [("edgeseal-audit.socket", AUDIT_SOCKET), ("edgeseal-uplink.socket", UPLINK_SOCKET)]
)
def test_sockets_are_where_the_clients_look(unit: str, path: str) -> None:
    found = settings(unit)
    assert found["ListenSequentialPacket"] == [path]
    assert found["SocketUser"] == [unit.removesuffix(".socket")]
    assert found["SocketGroup"] == [CLIENTS_GROUP[0]]
    assert found["SocketMode"] == ["0660"]


def test_clients_of_the_sockets_are_in_their_group() -> None:
    for name in (
        "audit",
        "uplink",
        "inference",
        "update",
        "network",
        "health",
        "recovery-escrow",
        "watch",
        "audit-export",
    ):
        assert CLIENTS_GROUP[0] in settings(f"edgeseal-{name}.service")["SupplementaryGroups"][0].split()


def test_the_inference_service_sees_no_key_of_the_site() -> None:
    assert settings("edgeseal-inference.service")["ImportCredential"] == ["edgeseal.device-id"]
    assert settings("edgeseal-network.service")["ImportCredential"] == [SITE_NETWORK_CREDENTIAL, "edgeseal.device-id"]
    assert settings("edgeseal-health.service")["ImportCredential"] == ["edgeseal.device-id"]
    for name in ("ruleset", "recovery-escrow", "watch", "audit-export"):
        assert "ImportCredential" not in settings(f"edgeseal-{name}.service")


def test_the_update_service_sees_where_to_fetch_and_no_private_key() -> None:
    names = settings("edgeseal-update.service")["ImportCredential"]
    wanted = ("device-id", "site-id", "vendor-url", "site-url", "update-ca", "site-root", "groups")
    assert names == [f"edgeseal.{name}" for name in wanted]


def test_the_audit_log_sees_public_credentials_alone_and_the_tpm() -> None:
    found = settings("edgeseal-audit.service")
    assert found["ImportCredential"] == [f"edgeseal.{name}" for name in PUBLIC_CREDENTIALS]
    assert not [name for name in PUBLIC_CREDENTIALS if "key" in name or "password" in name]
    assert found["DeviceAllow"] == [f"{TPM_DEVICE} rw"]
    for name in ("audit", "update"):
        assert TPM_GROUP[0] in settings(f"edgeseal-{name}.service")["SupplementaryGroups"][0].split()


def test_the_copy_of_the_log_has_the_log_and_the_medium_and_no_key() -> None:
    found = settings(PULLED_IN_BY_UDEV)
    places, copy = AuditSettings().places, ExportSettings()
    assert copy.logs == places.log.parent
    assert found["ReadOnlyPaths"] == found["RequiresMountsFor"] == [str(copy.logs)]
    assert found["InaccessiblePaths"] == [str(places.state)]
    assert found["PrivatePIDs"] == ["yes"], "the writer is the same user: /proc has its view of the disk"
    assert found["ReadWritePaths"] == [str(copy.medium)] == [EXPORT_MOUNT]
    assert found["BindsTo"] == ["run-edgeseal\\x2dexport.mount"]
    assert "run-edgeseal\\x2dexport.mount" in found["After"][0].split()
    assert found["User"] == settings("edgeseal-audit.service")["User"]
    assert found["Type"] == ["oneshot"]
    assert not {"RemainAfterExit", "DeviceAllow", "StateDirectory"} & set(found), "the medium is unmounted at its end"
    assert TPM_GROUP[0] not in found["SupplementaryGroups"][0].split()


def test_the_halt_is_asked_for_where_only_the_audit_log_writes() -> None:
    [path] = settings("edgeseal-halt.path")["PathExists"]
    assert path == f"/run/{settings('edgeseal-audit.service')['RuntimeDirectory'][0]}/halt" == str(AuditSettings().halt)
    assert Path(AUDIT_TAKES_EVENTS).parent == AuditSettings().halt.parent


def test_the_watch_over_the_kernel_may_read_and_nothing_else() -> None:
    found = settings("edgeseal-watch.service")
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == ["CAP_AUDIT_READ CAP_SYSLOG"]
    assert found["DeviceAllow"] == ["/dev/kmsg r"]
    assert not {"PrivateUsers", "PrivateNetwork", "ProtectKernelLogs"} & set(found)  # records come to none of these


def test_what_the_update_service_may_write() -> None:
    found = settings("edgeseal-update.service")
    assert found["ReadWritePaths"] == ["/efi/EFI/Linux"]
    assert found["DevicePolicy"] == ["closed"]
    partitions = [f"/dev/disk/by-partlabel/{name} rw" for name in LABELS if name != "esp"]
    assert found["DeviceAllow"] == [*partitions, f"{TPM_DEVICE} rw"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["StateDirectory"] == [Path(STATE_PATH).parent.name]


def test_the_slot_that_runs_is_not_writable_for_updates() -> None:
    """Group write comes last, and only without a holder; a stick cannot pretend to be a slot."""
    lines = [line for line in (UNITS / "65-edgeseal-update.rules").read_text().splitlines() if line[:1] != "#"]
    assert f'ENV{{ID_PART_ENTRY_NAME}}!="{"|".join(name for name in LABELS if name != "esp")}", GOTO=' in lines[4]
    assert lines[2].startswith('ENV{ID_BUS}=="usb", GOTO=')
    assert lines[5:7] == [
        'OWNER="root", GROUP="edgeseal-update", MODE="0640"',
        'TEST!="holders/*/dm", MODE="0660"',
    ]
    assert [line for line in lines if "0660" in line] == [
        'SUBSYSTEM=="tpmrm", KERNEL=="tpmrm0", GROUP="edgeseal-tpm", MODE="0660"',
        lines[6],
    ]


def test_the_reboot_is_asked_for_where_only_the_update_service_writes() -> None:
    [path] = settings("edgeseal-reboot.path")["PathExists"]
    found = settings("edgeseal-update.service")
    assert path == f"/run/{found['RuntimeDirectory'][0]}/reboot"
    assert found["RuntimeDirectoryMode"] == ["0755"]


def test_the_health_check_reads_the_state_and_leaves_its_judgement() -> None:
    """It is root without any capability: what others own it reads as anybody does."""
    assert settings("edgeseal-update.service")["StateDirectoryMode"] == ["0755"]
    found = settings("edgeseal-health.service")
    assert found["StateDirectory"] == [Path(JUDGEMENT_PATH).parent.name]
    assert found["StateDirectoryMode"] == ["0755"]


def test_the_health_check_waits_for_every_service() -> None:
    [command] = settings("edgeseal-health.service")["ExecStart"]
    services = ("audit", "uplink", "inference", "ruleset", "network", "update")
    assert command.split()[4:] == [f"edgeseal-{name}.service" for name in services]
    assert settings("edgeseal-health.service")["Before"] == ["boot-complete.target"]
    assert "RequiredBy=boot-complete.target" in (UNITS / "edgeseal-health.service").read_text()


def test_no_interface_without_the_ruleset() -> None:
    """What configures interfaces requires the unit that loads the ruleset, and starts after it."""
    found = settings("edgeseal-ruleset.service")
    assert found["ExecStart"] == [f"/usr/sbin/nft --file {Settings().ruleset}"]
    assert found["RequiredBy"] == ["systemd-networkd.service"]
    assert {"network-pre.target", "systemd-networkd.service"} <= set(found["Before"][0].split())
    assert found["Type"] == ["oneshot"]
    assert found["RemainAfterExit"] == ["yes"]


def test_the_watch_over_the_ruleset_has_one_right() -> None:
    found = settings("edgeseal-network.service")
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == ["CAP_NET_ADMIN"]
    assert found["RestrictAddressFamilies"] == ["AF_NETLINK AF_UNIX"]
    assert "PrivateUsers" not in found  # the right would be one over another network
    assert found["ProtectControlGroups"] == ["yes"]  # `strict` hides the tree that it has to read
    assert "edgeseal-ruleset.service" in found["After"][0].split()
    assert "Requires" not in found  # it has to tell that the ruleset was not loaded


def test_conduits_are_bound_to_the_control_group_of_each_service() -> None:
    """systemd puts it into the set when the unit starts; the watch compares and fills it after a load."""
    for name in USERS:
        service = name.removeprefix("edgeseal-")
        assert settings(f"{name}.service")["NFTSet"] == [f"cgroup:{TABLE.replace(' ', ':')}:cg_{service}"]
    assert sorted(WATCHED) == sorted(SERVICES_WITH_SETS) == sorted(name.removeprefix("edgeseal-") for name in USERS)
    for name in NETWORKED:
        assert "edgeseal-network.service" in settings(name)["After"][0].split()


def test_no_unit_names_a_place_outside_the_image() -> None:
    for path in UNITS.iterdir():
        assert not re.search(r"/(home|usr/local|root)\b(?!-)", path.read_text()), path.name
        assert Path(path.name).suffix in (
            ".service",
            ".socket",
            ".target",
            ".path",
            ".preset",
            ".sysusers",
            ".tmpfiles",
            ".rules",
        )
