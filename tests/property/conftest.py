"""Tests of a kind that is quick."""

from tests.support.quick import keys_are_checked_once, no_power_fails

__all__ = ["keys_are_checked_once", "no_power_fails"]
