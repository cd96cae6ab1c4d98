"""edgeseal network: look at a policy of zones and conduits, compare two, check one, prove one; a site's credential.

Reference: docs/reference/network.md.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.core.durable import write_durable
from appliance.core.errors import InputError, Place
from appliance.formats.network_policy import NetworkPolicy, decode_network_policy
from appliance.formats.site_network import SITE_NETWORK_CREDENTIAL, encode_site_network, fill
from builder.cli.command import Command, problem_data
from builder.cli.network_prove import PROVE
from builder.host.netfilter import load_and_list
from builder.host.progress import step
from builder.host.sandbox import Sandbox
from builder.host.toolstree import tools_tree
from builder.network.check import check_text, ruleset_data, slots_data
from builder.network.diagram import draw
from builder.network.diff import difference_data, difference_text, differences
from builder.network.ruleset import compile_ruleset
from builder.network.show import policy_data, policy_text
from builder.profile.load import load_profile, overdue_reviews, profile_path, shown_path
from builder.profile.site_network import load_site_network
from builder.review.network_proof import filling
from builder.rootfs.files import SERVICE_UIDS

_STANDARD_OUTPUT = "-"


def read_policy(path_or_name: str) -> tuple[str, NetworkPolicy]:
    """A name, and the policy of a profile (by name or path) or of a sealed network.json (by path).

    Raises InputError, or ProfileError with every problem of the profile.
    """
    if not path_or_name.endswith(".json"):
        profile = load_profile(path_or_name)
        return profile.name, profile.network
    path = Path(path_or_name)
    try:
        return path.stem, decode_network_policy(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "give a profile, by name or by path, or the network.json of an image"
        raise InputError(f"cannot read the policy: {reason}", place=Place(path_or_name), hint=hint) from error


# ---- show


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a profile, by name or by path, or a sealed network.json")
    parser.add_argument("--svg", metavar="FILE", help="write the zone and conduit diagram; - is standard output")


def _show(arguments: argparse.Namespace) -> dict[str, Any]:
    name, policy = read_policy(arguments.profile)
    if arguments.svg is None:
        return policy_data(policy, name=name)
    svg = draw(policy, name=name)
    if arguments.svg == _STANDARD_OUTPUT:
        return {"profile": name, "svg": svg}
    write_durable(Path(arguments.svg), svg.encode())
    return {"profile": name, "written": arguments.svg}


def _render_show(result: dict[str, Any]) -> str:
    if "svg" in result:
        return str(result["svg"]).removesuffix("\n")
    return str(result["written"]) if "written" in result else policy_text(result)


# ---- diff


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="a profile, by name or by path, or a sealed network.json")
    parser.add_argument("new", metavar="NEW", help="the same, as it is now")


def _diff(arguments: argparse.Namespace) -> dict[str, Any]:
    return difference_data(differences(read_policy(arguments.old)[1], read_policy(arguments.new)[1]))


# ---- check


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a profile, by name or by path")
    parser.add_argument("--site", type=Path, metavar="FILE", help="the site's file that fills the slots")
    parser.add_argument("--release", action="store_true", help="refuse conduits that are approved no longer")


def _check(arguments: argparse.Namespace) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    overdue = overdue_reviews(arguments.profile, today=today, release=arguments.release)
    profile = load_profile(arguments.profile)
    policy = profile.network
    filled = {} if arguments.site is None else fill(policy, load_site_network(arguments.site, policy))
    ruleset = compile_ruleset(policy, name=profile.name, uids=SERVICE_UIDS)
    with step("load the ruleset into a network namespace of its own"):
        loaded = _loads(ruleset + filling(policy, filled), tools_tree(), name=f"the ruleset of {profile.name}")
    return {
        "profile": profile.name,
        "file": shown_path(profile_path(arguments.profile)),
        "zones": len(policy.zones),
        "conduits": len(policy.conduits),
        "overdue": [problem_data(problem) for problem in overdue],
        "slots": slots_data(policy, filled),
        "ruleset": ruleset_data(ruleset, loaded=loaded),
    }


def _loads(ruleset: bytes, tools: Sandbox, *, name: str) -> bool:
    """False when this machine lends no network namespace. Raises InputError when the kernel refuses the ruleset."""
    try:
        load_and_list(b"", tools=tools, name="an empty ruleset")
    except InputError:
        return False
    load_and_list(ruleset, tools=tools, name=name)
    return True


# ---- credential


def _credential_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a profile, by name or by path")
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help="the site's file that fills the slots")
    parser.add_argument("--out", metavar="FILE", help="where to write it; without it, standard output")


def _credential(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = load_profile(arguments.profile)
    site = load_site_network(arguments.site, profile.network)
    result = {"profile": profile.name, "credential": SITE_NETWORK_CREDENTIAL}
    content = encode_site_network(site)
    if arguments.out in (None, _STANDARD_OUTPUT):
        return {**result, "content": content.decode()}
    write_durable(Path(arguments.out), content)
    return {**result, "written": arguments.out}


def _render_credential(result: dict[str, Any]) -> str:
    return str(result["written"]) if "written" in result else str(result["content"]).removesuffix("\n")


COMMANDS = (
    Command(
        path=("network", "show"),
        help="show zones, conduits, limits and defaults of a profile; --svg draws them",
        arguments=_show_arguments,
        execute=_show,
        render=_render_show,
    ),
    Command(
        path=("network", "diff"),
        help="say what a change of policy opens, closes, widens and narrows; exits 1 when it allows more",
        arguments=_diff_arguments,
        execute=_diff,
        render=difference_text,
        exit_code=lambda result: int(result["widens"]),
    ),
    Command(
        path=("network", "check"),
        help="tell everything that is wrong with a policy and a site's file, and load its ruleset",
        arguments=_check_arguments,
        execute=_check,
        render=check_text,
    ),
    Command(
        path=("network", "credential"),
        help="make the credential of a site's file, which tells a device its peers",
        arguments=_credential_arguments,
        execute=_credential,
        render=_render_credential,
    ),
    PROVE,
)
