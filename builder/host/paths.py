"""Where the builder keeps things on the host. Nothing of it is in the tree."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """EDGESEAL_CACHE, else XDG_CACHE_HOME/edgeseal, else ~/.cache/edgeseal: pool, unpacked trees, step results."""
    if "EDGESEAL_CACHE" in os.environ:
        return Path(os.environ["EDGESEAL_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeseal"


def keys_directory() -> Path:
    """EDGESEAL_KEYS, else XDG_CONFIG_HOME/edgeseal/keys, else ~/.config/edgeseal/keys: private keys, mode 0700."""
    if "EDGESEAL_KEYS" in os.environ:
        return Path(os.environ["EDGESEAL_KEYS"])
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgeseal" / "keys"


def source_root() -> Path:
    """The checkout: the directory that holds builder/, appliance/, profiles/."""
    return Path(__file__).resolve().parents[2]
