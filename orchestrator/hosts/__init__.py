"""The hosts that train: Ray actors, and the pool that leases their slots to trials."""
