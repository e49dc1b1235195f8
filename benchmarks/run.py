"""Runs a benchmark by its name and keeps what it found; without a name, says which there are.

    python benchmarks/run.py                        # the names, a line each
    python benchmarks/run.py NAME [ARGUMENTS]       # keeps results/benchmarks/NAME.json
    python benchmarks/run.py --save NAME [...]      # keeps benchmarks/results/NAME.json instead
    python benchmarks/run.py tables                 # writes the tables of the pages anew

A result has the date, the command, hardware and versions beside its tables.
"""

import ast
import datetime
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
import time

import tables

FOLDER = pathlib.Path(__file__).resolve().parent


def names() -> dict[str, str]:
    """The benchmarks, the first line of each one's docstring behind its name."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text())
        if path.stem != "run" and any(getattr(node, "name", "") == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def about(command: str) -> dict:
    """Date, command, hardware and versions of a run in this process."""
    import jax

    packages = ("jax", "jaxlib", "flax", "numpy", "lswag_jax")
    return {
        "date": f"{datetime.date.today()}",
        "command": command,
        "hardware": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores; {jax.devices()[0]}",
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
    }


def _cpu() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def main() -> None:
    """Runs what the command line names."""
    arguments = sys.argv[1:]
    save = arguments[:1] == ["--save"]
    name, *rest = arguments[save:] or [""]
    if name == "tables":
        tables.rewrite_pages()
        return
    if name not in names():
        if name:
            print(f"There is no benchmark {name!r}; there are:")
        for known, line in names().items():
            print(f"{known:20} {line}")
        sys.exit(2 if name else 0)
    sys.argv = [f"benchmarks/run.py {name}", *rest]
    start = time.perf_counter()
    importlib.import_module(name).main()
    if not tables.shown:
        return
    folder = FOLDER / "results" if save else pathlib.Path("results", "benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    result = about(shlex.join(["python", "benchmarks/run.py", *arguments]))
    result |= {"seconds": round(time.perf_counter() - start), "tables": tables.shown}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
