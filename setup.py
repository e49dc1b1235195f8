"""What pyproject.toml cannot say: `configs/` of a clone is `lswag_jax/configs` where installed."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lswag_jax", "lswag_jax.*"]), "lswag_jax.configs"],
    package_dir={"lswag_jax.configs": "configs"},
)
