"""Everything that can happen to an uplink, on purpose, from a seed; and an exact count of what arrived."""
