"""Our keys in Debian's firmware variable stores, for both architectures."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.host.toolstree import vm_tree
from builder.signing.certificates import certificate_der
from builder.signing.roles import Role
from builder.signing.variables import enroll, read_enrolled
from tests.support.keys import keyset

TEMPLATES = ["OVMF/OVMF_VARS_4M.fd", "OVMF/OVMF_VARS_4M.ms.fd", "AAVMF/AAVMF_VARS.fd", "AAVMF/AAVMF_VARS.ms.fd"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_exactly_our_keys_are_enrolled(name: str) -> None:
    template = Path(vm_tree().root, "usr/share", name).read_bytes()
    assert ("PK" in read_enrolled(template)) == (".ms." in name)
    enrolled = enroll(template, keyset())
    assert len(enrolled) == len(template)
    assert enroll(template, keyset()) == enrolled
    roles = {"PK": Role.PK, "KEK": Role.KEK, "db": Role.DB}
    assert read_enrolled(enrolled) == {n: [certificate_der(keyset().certificate(role))] for n, role in roles.items()}
