"""cluster.toml in, frozen values out. Start at `load`; every key, its default and its reason stand in `model` and `model_pool`."""
