"""Settings of runs: data, not code. Every value can be changed by a flag, --config.a.b=value."""
