"""Signing: keys, the Signer behind which they stay, and every signature format that a device or a reviewer checks.

Nothing here reads the clock except `keyinit`, which takes the time as an argument: the same keys and the same input
give the same bytes, today and in twenty years. Reference: docs/reference/keys.md.
"""
