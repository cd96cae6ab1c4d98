"""assemble: the whole root tree of an image."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from appliance.formats.model_card import encode_model_card
from builder.archive.pool import Pool
from builder.archive.stepcache import cached_directory, code_digest, key_of
from builder.host.paths import source_root
from builder.host.sandbox import Sandbox
from builder.lock.types import Lock
from builder.model.card import Model
from builder.profile.types import Profile
from builder.review.listing import directory_listing, tree_digest
from builder.rootfs import entries, files, layers, pycompile, tree
from builder.rootfs.entries import File, RootPlan
from builder.rootfs.files import Sealed


@dataclass(frozen=True)
class RootTree:
    """A finished root.

    path: the directory. kernel_version: of its modules. inputs: hash over all that went in. tree_digest: SHA-256 over
    its listing (docs/specs/manifest.md).
    """

    path: Path
    kernel_version: str
    inputs: str
    tree_digest: str


def appliance_plan(*, test_agent: bool) -> RootPlan:
    """The device's Python, without the test agent unless the profile is for development."""
    base = source_root() / "appliance"
    return {
        f"{layers.SITE}/appliance/{path.relative_to(base)}": File(source=path)
        for path in sorted(base.rglob("*.py"))
        if test_agent or "agent" not in path.relative_to(base).parts
    }


def model_plan(models: tuple[Model, ...]) -> RootPlan:
    """Each model and its card."""
    plan: RootPlan = {}
    for model in models:
        plan[f"usr/lib/edgeseal/models/{model.name}/model.onnx"] = File(content=model.onnx)
        plan[f"usr/lib/edgeseal/models/{model.name}/model.json"] = File(content=encode_model_card(model.card))
    return plan


def assemble(
    profile: Profile, lock: Lock, pool: Pool, tools: Sandbox, *, sealed: Sealed, models: tuple[Model, ...]
) -> RootTree:
    """Base layer plus what is ours. Kept by the hash of both."""
    base = layers.base_layer(profile, lock, pool, tools)
    version = layers.find_package(lock, "linux-image-6").name.removeprefix("linux-image-")
    top = (
        appliance_plan(test_agent=profile.development.test_agent)
        | model_plan(models)
        | files.profile_files(profile, sealed)
    )
    key = key_of(base.name, layers.plan_digest(top), code_digest([entries, tree, pycompile]))

    def make(directory: Path) -> None:
        target = directory / "root"
        target.mkdir(mode=0o755)
        target.chmod(0o755)
        tree.write_tree(tree.scan(base), target)
        for path in top:
            (target / path).unlink(missing_ok=True)
        tree.write_tree(top, target)
        for name in ("shadow", "gshadow"):
            shutil.copyfile(base / "etc" / name, target / "etc" / f".{name}")
            (target / "etc" / f".{name}").replace(target / "etc" / name)
            (target / "etc" / name).chmod(0o400)
        (target / "root").chmod(0o700)
        layers.compile_python(target, [path for path in sorted(top) if path.endswith(".py")], tools)
        (directory / "tree.digest").write_text(tree_digest(directory_listing(target)))

    made = cached_directory("root", key, make)
    return RootTree(
        path=made / "root",
        kernel_version=version,
        inputs=key,
        tree_digest=(made / "tree.digest").read_text(),
    )
