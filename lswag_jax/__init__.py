"""L-SWAG and other zero-cost proxies in JAX."""

__version__ = "0.1.0"
