"""The network policy and the site's network: the vectors, every refusal with its exact message, the site's file."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.errors import DecodeError, InputError
from appliance.formats.network_policy import NetworkPolicy, decode_network_policy, encode_network_policy
from appliance.formats.site_network import (
    MAXIMUM_BYTES,
    SITE_NETWORK_CREDENTIAL,
    decode_site_network,
    encode_site_network,
    fill,
)
from builder.host.paths import source_root
from builder.profile.load import decode_profile, load_profile
from builder.profile.problem import ProfileError
from builder.profile.review import overdue_findings
from builder.profile.site_network import decode_site_file, load_site_network

VECTORS = Path(__file__).parent.parent / "vectors"
POLICIES = json.loads((VECTORS / "network-policy.json").read_text())["policies"]
SITES = json.loads((VECTORS / "site-network.json").read_text())
POLICY = decode_network_policy(SITES["policy"].encode())
LINE_3 = decode_profile(
    (Path(__file__).parent / "data" / "line-3.yaml").read_bytes(), file="line-3.yaml", stem="line-3"
).network
PLANT = source_root() / "profiles" / "sites" / "plant-4.yaml"


@pytest.mark.parametrize("vector", POLICIES)
def test_the_policies(vector: Any) -> None:
    data = vector["canonical"].encode()
    policy = decode_network_policy(data)
    assert policy == msgspec.convert(vector["value"], NetworkPolicy)
    assert encode_network_policy(policy) == data


@pytest.mark.parametrize("vector", SITES["sites"], ids=[vector["what"] for vector in SITES["sites"]])
def test_the_sites(vector: Any) -> None:
    data = vector["canonical"].encode()
    site = decode_site_network(data)
    assert encode_site_network(site) == data
    if "refused" in vector:
        with pytest.raises(InputError) as refusal:
            fill(POLICY, site)
        assert str(refusal.value) == vector["refused"]
        assert refusal.value.hint
    else:
        assert {name: list(addresses) for name, addresses in fill(POLICY, site).items()} == vector["fills"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "network policy: Input data was truncated"),
        (POLICIES[0]["canonical"].strip().encode(), "network policy: not in canonical form"),
        (
            POLICIES[0]["canonical"].replace('"component_type":"embedded",', "").encode(),
            "network policy: not in canonical form",
        ),
        (
            POLICIES[0]["canonical"].replace('"slots":', '"slotz":').encode(),
            "network policy: Object contains unknown field `slotz`",
        ),
        (
            POLICIES[0]["canonical"].replace('"from":"device"', '"from":"Device"').encode(),
            "network policy: Expected `str` matching regex '^[a-z][a-z0-9-]{0,62}(?!\\\\n)$' - at `$.conduits[0].from`",
        ),
        (
            b'{"component_type":"\xff"}',
            "network policy: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
    ],
)
def test_bytes_that_are_no_policy(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_network_policy(data)
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[]\n", "site network: Expected `object`, got `array`"),
        (b'{"schema":1,"slots":{"broker":["192.0.2.5"]}}', "site network: not in canonical form"),
        (b'{"schema":1, "slots":{"broker":["192.0.2.5"]}}\n', "site network: not in canonical form"),
        (
            b'{"schema":1,"slots":{"broker":["192.0.2.5"],"broker":["192.0.2.6"]}}\n',
            "site network: not in canonical form",
        ),
        (b'{"schema":2,"slots":{}}\n', "site network: Invalid enum value 2 - at `$.schema`"),
        (b'{"slots":{}}\n', "site network: Object missing required field `schema`"),
        (
            b'{"schema":1,"site":"plant-4","slots":{}}\n',
            "site network: Object contains unknown field `site`",
        ),
        (
            b'{"schema":1,"slots":{"broker":"192.0.2.5"}}\n',
            "site network: Expected `array`, got `str` - at `$.slots[...]`",
        ),
        (
            b'{"schema":1,"slots":{"broker":["broker.test"]}}\n',
            "site network: Expected `str` matching regex '^[0-9a-f.:]+(?!\\\\n)$' - at `$.slots[...][0]`",
        ),
        (
            b'{"schema":1,"slots":{"broker":["192.0.2.0/24"]}}\n',
            "site network: Expected `str` matching regex '^[0-9a-f.:]+(?!\\\\n)$' - at `$.slots[...][0]`",
        ),
        (b" " * (MAXIMUM_BYTES + 1), f"site network: larger than {MAXIMUM_BYTES} bytes"),
    ],
)
def test_bytes_that_are_no_site(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_site_network(data)
    assert str(refusal.value) == said


def test_what_the_site_does_not_fill_stays_out() -> None:
    policy = load_profile("industrial-pc").network
    site = decode_site_file(b"schema: 1\nslots: {site-repository: [192.168.20.7]}\n", policy, file="plant.yaml")
    assert fill(policy, site) == {"site-repository": ("192.168.20.7",)}


@pytest.mark.parametrize("name", ["industrial-pc", "npu-gateway", "smart-camera"])
def test_the_example_plant_fills_every_slot_of_the_boards(name: str) -> None:
    policy = load_profile(name).network
    site = load_site_network(PLANT, policy)
    assert list(fill(policy, site)) == [slot.name for slot in policy.slots]
    assert decode_site_network(encode_site_network(site)) == site


def test_the_credential_has_the_name_of_its_specification() -> None:
    text = (source_root() / "docs" / "specs" / "site-network.md").read_text()
    assert f"`{SITE_NETWORK_CREDENTIAL}`" in text


SITE_FILES = [
    (
        "nothing",
        "",
        ["plant.yaml:1: the file is empty", "copy one of profiles/ and change it"],
    ),
    (
        "no slots",
        "schema: 1\n",
        ["plant.yaml:1: slots: missing", "it is a mapping"],
    ),
    (
        "slots that are a list",
        "schema: 1\nslots: [mirror]\n",
        ["plant.yaml:2: slots: a list, expected a mapping", "its keys stand below it, indented, each as `NAME: VALUE`"],
    ),
    (
        "an address that is no list",
        "schema: 1\nslots:\n  mirror: 203.0.113.9\n",
        [
            "plant.yaml:3: slots.mirror: `203.0.113.9`, expected a list",
            "begin each item with `- `, or write `[ITEM, ITEM]`",
        ],
    ),
    (
        "any address",
        "schema: 1\nslots:\n  mirror: any\n",
        [
            "plant.yaml:3: slots.mirror: `any` opens more than anybody approved",
            "write the addresses of the hosts, like `[192.0.2.5]`",
        ],
    ),
    (
        "all addresses in a list",
        'schema: 1\nslots:\n  mirror: ["*"]\n',
        [
            "plant.yaml:3: slots.mirror[0]: `*` opens more than anybody approved",
            "write the addresses of the hosts, like `[192.0.2.5]`",
        ],
    ),
    (
        "a name",
        "schema: 1\nslots:\n  mirror:\n    - mirror.test\n",
        ["plant.yaml:4: slots.mirror[0]: `mirror.test`, expected an IPv4 address", "write it like `192.0.2.1`"],
    ),
    (
        "a slot with capitals",
        "schema: 1\nslots:\n  Mirror: [203.0.113.9]\n",
        [
            "plant.yaml:3: slots.Mirror: `Mirror`, expected lower-case letters, digits and dashes, "
            "beginning with a letter",
            "write it like `label-check`",
        ],
    ),
    (
        "a slot that the policy does not have",
        "schema: 1\nslots:\n  miror: [203.0.113.9]\n",
        ["plant.yaml:3: slots.miror: the policy has no such slot", "did you mean `mirror`?"],
    ),
    (
        "a slot with no near one",
        "schema: 1\nslots:\n  time: [203.0.113.9]\n",
        ["plant.yaml:3: slots.time: the policy has no such slot", "slots there: mirror"],
    ),
    (
        "an empty slot",
        "schema: 1\nslots:\n  mirror: []\n",
        ["plant.yaml:3: slots.mirror: no address", "remove the line: a slot that is not filled stays closed"],
    ),
    (
        "a slot out of its bounds, with too many, one of them twice",
        "schema: 1\nslots:\n  mirror:\n    - 203.0.113.9\n    - 203.0.113.64\n    - 203.0.113.9\n",
        [
            "plant.yaml:3: slots.mirror: 3 addresses, at most 2 are allowed",
            "keep those that are needed, or have the policy changed",
            "plant.yaml:5: slots.mirror[1]: `203.0.113.64` is outside its bounds (203.0.113.0/26)",
            "correct it, or have the policy changed",
            "plant.yaml:6: slots.mirror[2]: `203.0.113.9` stands twice",
            "remove one of the two",
        ],
    ),
    (
        "another family",
        'schema: 1\nslots:\n  mirror: ["2001:db8::9"]\n',
        [
            "plant.yaml:3: slots.mirror[0]: `2001:db8::9` is not an IPv4 address",
            "the slot is for IPv4 addresses of hosts",
        ],
    ),
    (
        "an address that cannot exist",
        "schema: 1\nslots:\n  mirror: [203.0.113.999]\n",
        [
            "plant.yaml:3: slots.mirror[0]: `203.0.113.999` is not an IPv4 address",
            "write the address of one host, without a prefix length",
        ],
    ),
    (
        "a slot twice",
        "schema: 1\nslots:\n  mirror: [203.0.113.9]\n  mirror: [203.0.113.10]\n",
        ["plant.yaml:4: slots.mirror: key given twice", "the first is on line 3"],
    ),
]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in SITE_FILES], ids=[row[0] for row in SITE_FILES])
def test_wrong_site_file(text: str, said: list[str]) -> None:
    with pytest.raises(ProfileError) as refusal:
        decode_site_file(text.encode(), LINE_3, file="plant.yaml")
    assert [line for problem in refusal.value.problems for line in (str(problem), problem.hint)] == said


def test_a_site_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        load_site_network(tmp_path / "plant.yaml", LINE_3)
    assert str(refusal.value) == f"{tmp_path}/plant.yaml: cannot read the site's file: no such file or directory"
    assert refusal.value.hint == "give a file like profiles/sites/plant-4.yaml"


@pytest.mark.parametrize(("today", "ended"), [(date(2027, 6, 30), 0), (date(2027, 7, 1), len(LINE_3.conduits))])
def test_the_last_day_of_an_approval_is_a_day_of_it(today: date, ended: int) -> None:
    assert len(list(overdue_findings(LINE_3, today=today))) == ended
