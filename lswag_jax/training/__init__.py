"""Training what a search has found: networks of any space, super-networks, whole benchmarks."""
