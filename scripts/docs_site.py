"""What `mkdocs.yml` cannot say: where the pages lie, and what our docstrings call an example."""

import pathlib
from typing import Any

import griffe


def on_config(config: Any) -> Any:
    """MkDocs: pages lie in the whole repository, so that its links hold on the site too."""
    config.docs_dir = str(pathlib.Path(config.config_file_path).parent)
    return config


class Examples(griffe.Extension):
    """griffe: `Example:` is a section of code that is run, as its own `Examples:` is."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Renames the section of one object's docstring."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
