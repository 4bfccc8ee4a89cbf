"""One file per network: its Config, its Linen module and thin pure functions over both."""
