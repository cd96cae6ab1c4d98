"""Our signatures against programs that we did not write: openssl, sbverify, systemd-measure, ukify."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError, VerificationError
from builder.host.sandbox import Sandbox
from builder.host.toolstree import tools_tree
from builder.signing.authenticode import sign_pe, unsigned_pe, verify_pe
from builder.signing.cms import sign_attached, sign_detached, verify_cms
from builder.signing.dsse import sign_envelope
from builder.signing.pcrpolicy import measure_uki, pcr_public_key, pcr_signature
from builder.signing.pe import parse_pe, pe_sections
from builder.signing.roles import Role
from builder.signing.variables import enrollment_files
from tests.support.efi import boot_binaries
from tests.support.keys import keys_at, keyset

pytestmark = pytest.mark.xdist_group("signing-tools")  # the boot programs are unpacked once

CONTENT = b"0123456789abcdef" * 4
PHASES = ["enter-initrd", "enter-initrd:leave-initrd", "enter-initrd:leave-initrd:sysinit:ready"]


@pytest.fixture(scope="module")
def tools() -> Sandbox:
    return tools_tree()


@pytest.fixture(scope="module", params=["virtual-x86_64", "virtual-arm64"])
def efi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return boot_binaries(request.param, tmp_path_factory.mktemp("efi"))


def _openssl(tools: Sandbox, directory: Path, *words: str) -> bytes:
    command = ["openssl", *words]
    return tools.run(command, reason="compare", writable=[directory], binds={keys_at(): "/keys"}, cwd=directory)


def _smime(tools: Sandbox, directory: Path, *words: str) -> bytes:
    (directory / "content").write_bytes(CONTENT)
    signing = ("-signer", "/keys/db.crt", "-inkey", "/keys/db.key", "-binary", "-nocerts", "-noattr", "-md", "sha256")
    return _openssl(tools, directory, "smime", "-sign", *signing, "-in", "content", "-outform", "DER", *words)


def test_openssl_writes_the_same_cms(tools: Sandbox, tmp_path: Path) -> None:
    signer = keyset().signer(Role.DB)
    assert _smime(tools, tmp_path) == sign_detached(CONTENT, signer)
    assert _smime(tools, tmp_path, "-nodetach", "-nosmimecap") == sign_attached(CONTENT, signer)


def test_openssl_and_we_refuse_the_same_cms(tools: Sandbox, tmp_path: Path) -> None:
    verify = ("smime", "-verify", "-binary", "-inform", "DER", "-in", "s", "-content", "c", "-noverify")
    verify += ("-certfile", "/keys/db.crt")
    (tmp_path / "s").write_bytes(sign_detached(CONTENT, keyset().signer(Role.DB)))
    (tmp_path / "c").write_bytes(CONTENT)
    assert _openssl(tools, tmp_path, *verify) == CONTENT
    (tmp_path / "c").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(EdgesealError):
        _openssl(tools, tmp_path, *verify)
    with pytest.raises(VerificationError):
        verify_cms((tmp_path / "s").read_bytes(), CONTENT[:-1] + b"x", [keyset().certificate(Role.DB)])


def test_sbverify_accepts_what_we_sign(tools: Sandbox, efi: Path, tmp_path: Path) -> None:
    images = [path for path in sorted(efi.iterdir()) if path.name.endswith((".efi", ".stub"))]
    assert len(images) >= 3
    for path in images:
        signed = sign_pe(path.read_bytes(), keyset().signer(Role.DB))
        _sbverify(tools, tmp_path, signed)
        verify_pe(signed, [keyset().certificate(Role.DB)])
        assert sign_pe(unsigned_pe(signed), keyset().signer(Role.DB)) == signed


def test_sbverify_and_we_refuse_the_same_images(tools: Sandbox, efi: Path, tmp_path: Path) -> None:
    (loader,) = efi.glob("systemd-boot*.efi")
    signed = sign_pe(loader.read_bytes(), keyset().signer(Role.DB))
    sections = parse_pe(signed).sections
    for position in (0x50, sections[0].offset, sections[-1].offset + sections[-1].stored - 1):
        wrong = bytearray(signed)
        wrong[position] ^= 1
        with pytest.raises(EdgesealError):
            _sbverify(tools, tmp_path, bytes(wrong))
        with pytest.raises(VerificationError):
            verify_pe(bytes(wrong), [keyset().certificate(Role.DB)])
    with pytest.raises(EdgesealError):
        _sbverify(tools, tmp_path, signed, role=Role.KEK)
    with pytest.raises(EdgesealError):
        _sbverify(tools, tmp_path, loader.read_bytes())


def test_systemd_measure_signs_the_same_policy(tools: Sandbox, tmp_path: Path) -> None:
    sections = {f".{name}": name.encode() * 4321 for name in ("linux", "osrel", "cmdline", "initrd", "ucode", "splash")}
    # not hwids: systemd-measure 257 has --hwids and --dtbauto the wrong way round; the stub is what counts
    sections |= {f".{name}": name.encode() * 7 for name in ("dtb", "uname", "sbat", "profile")}
    sections |= {".pcrpkey": pcr_public_key(keyset().certificate(Role.PCR))}
    words = [f"--phase={phase}" for phase in PHASES]
    for name, content in sections.items():
        (tmp_path / name).write_bytes(content)
        words.append(f"--{name[1:]}={tmp_path / name}")
    command = ["/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--json=short", *words]
    calculated = json.loads(tools.run(command, reason="compare", binds={tmp_path: None}))["sha256"]
    measured = measure_uki(sections, PHASES)
    assert {entry["phase"]: entry["hash"] for entry in calculated} == {p: v.hex() for p, v in measured.items()}
    command[1:2] = ["sign", "--private-key=/keys/pcr.key"]
    signed = tools.run(command, reason="compare", binds={tmp_path: None, keys_at(): "/keys"})
    assert signed == pcr_signature(measured, keyset().signer(Role.PCR))


def test_ukify_and_we_measure_the_same_image(tools: Sandbox, efi: Path, tmp_path: Path) -> None:
    """From the finished PE file: section order, sizes that are no multiple of the alignment, a stub with its SBAT."""
    (stub,) = efi.glob("linux*.efi.stub")
    (tmp_path / "linux").write_bytes(b"not really a kernel" * 1111)
    (tmp_path / "initrd").write_bytes(b"initrd" * 777)
    command = ["ukify", "build", f"--stub={stub}", f"--linux={tmp_path / 'linux'}", f"--initrd={tmp_path / 'initrd'}"]
    command += [
        "--uname=6.12.0",
        "--cmdline=quiet",
        "--os-release=ID=edgeseal",
        f"--efi-arch={stub.name[5:].split('.')[0]}",
    ]
    command += ["--pcr-private-key=/keys/pcr.key", "--pcr-banks=sha256", f"--phases={' '.join(PHASES)}"]
    command += ["--pcr-public-key=/keys/pcr.pub", f"--output={tmp_path / 'uki'}"]
    public = tmp_path / "pcr.pub"
    public.write_bytes(pcr_public_key(keyset().certificate(Role.PCR)))
    binds: dict[Path, str | None] = {stub: None, keys_at() / "pcr.key": "/keys/pcr.key", public: "/keys/pcr.pub"}
    tools.run(command, reason="compare", writable=[tmp_path], binds=binds)
    sections = pe_sections((tmp_path / "uki").read_bytes())
    ours = json.loads(pcr_signature(measure_uki(sections, PHASES), keyset().signer(Role.PCR)))
    assert json.loads(sections[".pcrsig"].rstrip(b"\0")) == ours


def test_openssl_verifies_our_dsse_signature(tools: Sandbox, tmp_path: Path) -> None:
    envelope = json.loads(sign_envelope("text/plain", b"hello", keyset().signer(Role.PROVENANCE)))
    (tmp_path / "s").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "p").write_bytes(
        _openssl(tools, tmp_path, "x509", "-in", "/keys/provenance.crt", "-noout", "-pubkey"),
    )
    verify = ("dgst", "-sha256", "-verify", "p", "-signature", "s", "c")
    (tmp_path / "c").write_bytes(b"DSSEv1 10 text/plain 5 hello")
    assert _openssl(tools, tmp_path, *verify) == b"Verified OK\n"
    (tmp_path / "c").write_bytes(b"DSSEv1 10 text/plain 5 hallo")
    with pytest.raises(EdgesealError):
        _openssl(tools, tmp_path, *verify)


def test_openssl_reads_our_certificates(tools: Sandbox, tmp_path: Path) -> None:
    for role in Role:
        command = ("verify", "-check_ss_sig", "-CAfile", f"/keys/{role.value}.crt", "-partial_chain", "-no_check_time")
        assert _openssl(tools, tmp_path, *command, f"/keys/{role.value}.crt").endswith(b": OK\n")


def test_openssl_verifies_an_authenticated_variable(tools: Sandbox, tmp_path: Path) -> None:
    data = enrollment_files(keyset())["db.auth"]
    length = int.from_bytes(data[16:20], "little")
    payload = data[16 + length :]
    database = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
    (tmp_path / "c").write_bytes("db".encode("utf-16-le") + database + bytes([0x27, 0, 0, 0]) + data[:16] + payload)
    signed_data = data[40 : 16 + length]
    wrapped = bytes.fromhex("06092a864886f70d010702") + _tlv(0xA0, signed_data)
    (tmp_path / "s").write_bytes(_tlv(0x30, wrapped))
    verify = ("smime", "-verify", "-binary", "-inform", "DER", "-in", "s", "-content", "c", "-noverify")
    _openssl(tools, tmp_path, *verify)
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes() + b"x")
    with pytest.raises(EdgesealError):
        _openssl(tools, tmp_path, *verify)


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content


def _sbverify(tools: Sandbox, directory: Path, image: bytes, *, role: Role = Role.DB) -> None:
    (directory / "image.efi").write_bytes(image)
    command = ["sbverify", "--cert", f"/keys/{role.value}.crt", directory / "image.efi"]
    tools.run(command, reason="compare", binds={directory: None, keys_at(): "/keys"})
