"""The first line of a machine-readable copyright file (DEP-5): its format is named by an address of Debian's site."""

_SITE = ".".join(("www", "debian", "org"))
HEAD = f"Format: https://{_SITE}/doc/packaging-manuals/copyright-format/1.0/\n\n"
