"""The consumer's side of the uplink: what arrived, what is missing, and what can leave a device at all."""
