"""A vendor and a plant for VM tests: both repositories made with the CLI, served on loopback."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.cli.main import main
from builder.model.labels import render
from builder.publish.vendorroot import vendor_root_path
from builder.vm.config import GuestService
from builder.vm.repositories import repository_facts, served
from tests.support.images import Image
from tests.support.machine import Machine

SITE = "plant-4"
FRAMES = 3


def confirm_on_camera(device: Machine, *, version: int) -> None:
    """Hold labels in front of the camera: a version on trial is confirmed only once it has judged one."""
    device.wait_for_agent()
    device.wait_for_unit("edgeseal-inference.service")
    fonts = device.lab.tree.root / "usr/share/fonts/truetype"
    for index in range(FRAMES):
        device.show(render(index, seed=7, fonts=fonts).frame(index))
    device.told("update-confirmed", version=version)


def run_cli(*words: str | Path) -> None:
    """One command of the builder, in this process. It must succeed."""
    code = main([str(word) for word in words])
    assert code == 0, f"edgeseal {' '.join(map(str, words))} exited {code}"


@dataclass
class Updates:
    """directory: holds `vendor` and the site's repository. keys: of the builds, with tuf/ in it."""

    directory: Path
    keys: Path
    product: str
    site_name: str = "site"

    @property
    def vendor(self) -> Path:
        """The vendor's repository."""
        return self.directory / "vendor"

    @property
    def site(self) -> Path:
        """The site's."""
        return self.directory / self.site_name

    @property
    def vendor_root(self) -> Path:
        """What images trust."""
        return vendor_root_path(self.keys)

    def found(self) -> None:
        """Both repositories, empty. The vendor's root lies with the keys, where builds find it."""
        run_cli("repo", "init", "--dev", "--repo", self.vendor, "--keys", self.vendor_root.parent)
        words = ("--site", SITE, "--product", self.product, "--dev", "--keys", self.directory / "site-keys")
        run_cli("site", "init", self.site, *words)

    def with_another_site(self, name: str) -> Updates:
        """The same vendor, and the site as it is now, which goes a way of its own from here."""
        other = dataclasses.replace(self, site_name=name)
        shutil.copytree(self.site, other.site)
        return other

    def publish(self, image: Image) -> None:
        """The vendor's part."""
        words = ("--dev", "--repo", self.vendor, "--keys", self.vendor_root.parent, "--trust", self.keys)
        run_cli("repo", "publish", image.directory, *words)

    def policy(self, *words: str) -> None:
        """Change what the site says in general."""
        run_cli("site", "policy", self.site, self.product, *words, "--keys", self.directory / "site-keys", "--yes")

    def ring(self, name: str, *words: str) -> None:
        """Who is in it."""
        run_cli("site", "ring", self.site, self.product, name, *words, "--keys", self.directory / "site-keys", "--yes")

    def approve(self, version: int, ring: str) -> None:
        """The site's part."""
        found = ("--vendor", self.vendor, "--vendor-root", self.vendor_root)
        words = ("--ring", ring, "--any-time", "--ticket", f"CHG-{version}", "--keys", self.directory / "site-keys")
        run_cli("site", "approve", self.site, self.product, str(version), *found, *words, "--yes")

    def medium(self, name: str) -> Path:
        """A stick with all that the site has approved by now."""
        bundle, image = self.directory / name, self.directory / f"{name}.img"
        roots = ("--vendor-root", self.vendor_root, "--site-root", self.site / "metadata/1.root.json")
        where = ("--vendor", self.vendor, "--site", self.site, "--product", self.product)
        run_cli("bundle", "create", bundle, *where, *roots)
        run_cli("bundle", "apply", bundle, image)
        return image

    def credentials(self) -> dict[str, bytes]:
        """What a device of this plant is told."""
        return repository_facts(self.site, groups=("hall-2",))

    @contextmanager
    def served(self) -> Iterator[tuple[GuestService, ...]]:
        """Both on loopback, as guests reach them."""
        with served(self.vendor, self.site) as both:
            yield both.services
