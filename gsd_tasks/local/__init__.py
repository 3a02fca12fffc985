"""A whole cluster on this machine: embedded servers and `up`."""
