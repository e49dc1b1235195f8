"""Command-line programs: thin absl binaries over the library."""

from lswag_jax.extras import extra

with extra("cli"):
    import absl.logging  # noqa: F401
    import ml_collections  # noqa: F401
    import rich  # noqa: F401
