"""Policies as people see them: rulesets, tables, diagrams and differences, as text whose diff is the review."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.formats.network_policy import NetworkPolicy
from builder.host.paths import source_root
from builder.network.diagram import draw
from builder.network.diff import difference_data, difference_text, differences
from builder.network.ruleset import compile_ruleset
from builder.network.show import policy_data, policy_text
from builder.profile.load import load_profile, profile_names
from tests.conftest import Golden
from tests.support.policies import UIDS, everything

HERE = Path(__file__).parent
EVERYTHING = "everything"
SHOWN = "industrial-pc"
replace = msgspec.structs.replace


def policy_of(name: str) -> NetworkPolicy:
    return everything() if name == EVERYTHING else load_profile(name).network


def test_the_ruleset_of_everything_that_a_policy_can_say(golden: Golden) -> None:
    golden(HERE / "everything.nftables.txt", compile_ruleset(everything(), name=EVERYTHING, uids=UIDS).decode())


@pytest.mark.parametrize("name", [*profile_names(), EVERYTHING])
def test_table(name: str, golden: Golden) -> None:
    golden(HERE / f"{name}.network.txt", policy_text(policy_data(policy_of(name), name=name)) + "\n")


@pytest.mark.parametrize("name", [*profile_names(), EVERYTHING])
def test_diagram(name: str, golden: Golden) -> None:
    golden(HERE / f"{name}.network.svg", draw(policy_of(name), name=name))


def test_the_diagram_in_the_documentation_is_current(golden: Golden) -> None:
    golden(source_root() / "docs" / "images" / "zones.svg", draw(policy_of(SHOWN), name=SHOWN))


def test_difference(golden: Golden) -> None:
    """A new version of a policy with something of each kind."""
    old = everything()
    conduits = {conduit.id: conduit for conduit in old.conduits}
    broker, repository, results = conduits["broker"], conduits["repository"], conduits["results"]
    changed = {
        "broker": replace(broker, encryption="none", authentication="none"),
        "repository": replace(repository, ports=(443,)),
        "results": replace(results, ports=("8000-8020",), rate=replace(results.rate, new=20)),
        "trigger": replace(conduits["trigger"], id="strobe"),
        "names": replace(conduits["names"], review="2028-06-30", purpose="time and names"),
    }
    kept = [changed.get(name, conduit) for name, conduit in conduits.items() if name not in ("ping-in", "historian")]
    maintenance = replace(results, id="maintenance", ports=(22,), peers=("10.10.0.9",))
    slots = (replace(old.slots[0], most=8, within=("192.168.20.0/24",)), *old.slots[1:])
    zones = (replace(old.zones[0], security_level=1), *old.zones[1:])
    new = replace(old, conduits=(*kept, maintenance), slots=slots, zones=zones)
    golden(HERE / "network-diff.txt", difference_text(difference_data(differences(old, new))) + "\n")
