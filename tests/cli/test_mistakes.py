"""A mistake at the keyboard is one sentence and exit code 2, whichever binary it is made with."""

import gzip

import pytest

from tests.helpers.binaries import run

SMALL = ("--config=configs/quickstart.py:runlocal", "--config.proxies=params")
SEARCH = (*SMALL, "--config.search.fitness=params")
TRAIN = ("--config=configs/train_fashion_mnist.py:runlocal",)
LIBRA, CORRELATE = ("--config=configs/libra.py",), ("--config=configs/correlate.py",)
PRUNE = ("--config=configs/pruning.py:runlocal", "--config.proxies=params")
PRUNE += ("--config.search.fitness=params",)
LONG = "123456789012345678901"  # of a seed

NULL = '{"id": "a", "genotype": {}, "params": 1, "macs": 1, "seconds": null}'

# Binary, arguments ({} is a folder with the files below), and what the sentence must say.
CASES = {
    "empty workdir": ("score", (*SMALL, "--workdir="), "--workdir is empty"),
    "workdir is a file": ("train", (*TRAIN, "--workdir={}/file"), "/file is a file, not a folder"),
    "a file above": ("libra", (*LIBRA, "--workdir={}/file/x"), "/file is a file, not a folder"),
    "link": ("correlate", (*CORRELATE, "--workdir={}/link"), "/link is a link to nothing"),
    "config is a dict": ("score", ("--config={}/dict.py",), "must return a ConfigDict, got dict"),
    "config is None": ("train", ("--config={}/none.py",), "return a ConfigDict, got NoneType"),
    "config raises": ("score", ("--config={}/raises.py",), "oh"),
    "config is no Python": ("score", ("--config={}/syntax.py",), "invalid syntax"),
    "no get_config": ("score", ("--config={}/empty.py",), "has no function get_config"),
    "empty config": ("search", ("--config=",), "--config is empty"),
    "config is a folder": ("score", ("--config={}",), "cannot be loaded: "),
    "empty batch": (
        "score",
        (*SMALL, "--config.data.batch_size=0"),
        "data.batch_size must be an int",
    ),
    "batch": ("train", (*TRAIN, "--config.train.batch_size=0"), "train.batch_size must be an int"),
    "long seed": ("score", (*SMALL, f"--config.seed={LONG}"), "seed must be an integer from 0"),
    "seed": ("libra", (*LIBRA, "--config.seed=-1"), "seed must be an integer from 0"),
    "training's": ("train", (*TRAIN, f"--config.train.seed={LONG}"), "train.seed must be an int"),
    "no source": ("score", (*SMALL, "--config.data.source="), "the source is empty"),
    "damaged": ("score", (*SMALL, "--config.data.source={}/cut.npz"), "cut.npz is not an .npz"),
    "no window": ("score", (*SMALL, "--config.window=no.json"), "there is no window file no.json"),
    "reversed window": ("score", (*SMALL, "--config.window=7,3"), "window must hold bins"),
    "unused proxy": ("search", (*SEARCH, "--config.options.lswag.ddof=-1"), "ddof of lswag must"),
    "format": (
        "search",
        (*SEARCH, "--config.plots.format=png,jpg"),
        "plots.format must be one or several of png, pdf, svg, got 'jpg'",
    ),
    "no fitness": ("search", (*SMALL, "--config.search.fitness="), "at least one proxy"),
    "window": (
        "search",
        (*SEARCH, "--config.search.params_window=(9.0,1.0)"),
        "search.params_window must be (smallest, largest)",
    ),
    "open window": (
        "search",
        (*SEARCH, "--config.search.params_window=(9.0,inf)", "--config.search.macs_window=(inf,1)"),
        "search.macs_window must be (smallest, largest)",
    ),
    "at home": ("report", ("~/no run",), "there is no folder /"),
    "a file at home": (
        "score",
        (*SMALL, "--config.score.genotypes=~/no.json"),
        "there is no genotype file /",
    ),
    "latency window": (
        "search",
        (*SEARCH, "--config.search.latency_window=(9.0,1.0)"),
        "search.latency_window must be (smallest, largest) in milliseconds",
    ),
    "shard and latency": (
        "search",
        (
            *(*SEARCH, "--config.search.strategy=random", "--shard=0/2"),
            "--config.search.latency_window=(0.0,1.0)",
        ),
        "search.latency_window must not be set with a shard",
    ),
    "one objective": (
        "search",
        (*SMALL, "--config.search.objectives=params"),
        "search.objectives must be two or more, got 'params'",
    ),
    "objectives of pruning": (
        "search",
        ("--config=configs/pruning.py:runlocal", "--config.search.objectives=ntk,macs"),
        "search.objectives must be empty for pruning",
    ),
    "unknown objective": (
        "search",
        (*SMALL, "--config.search.objectives=params,-lateny"),
        "unknown proxy 'lateny', known are latency",
    ),
    "no text": (
        "correlate",
        (*CORRELATE, "--config.correlate.truth={}/binary.csv"),
        "binary.csv cannot be read as a table",
    ),
    "cut table": (
        "correlate",
        (*CORRELATE, "--config.correlate.truth={}/cut.csv.gz"),
        "cut.csv.gz cannot be read as a table: ",
    ),
    "header in another encoding": (
        "correlate",
        (*CORRELATE, "--config.correlate.truth={}/header.csv"),
        "header.csv cannot be read as a table",
    ),
    "report into a file": ("report", ("{}/run", "--out={}/file"), "/file is a file, not a folder"),
    "two channels": (
        "score",
        (*SMALL, "--config.space.channels=2"),
        "space.channels must be 1 or 3 for images, got 2",
    ),
    "deep truth": ("libra", (*LIBRA, "--config.libra.truth=nbsz_json:{}/deep.json"), "is not JSON"),
    "deep window": ("score", (*SMALL, "--config.window={}/deep.json"), "is not a readable JSON"),
    "deep genotypes": ("score", (*SMALL, "--config.score.genotypes={}/deep.json"), "holds neither"),
    "no table": ("libra", (*LIBRA, "--config.libra.truth=no.csv"), "there is no table no.csv"),
    "no column": (
        "search",
        (*SEARCH, "--config.search.truth={}/columns.csv:a:c"),
        "columns.csv has no column 'c', it has a, b",
    ),
    "cut truth": (
        "correlate",
        (*CORRELATE, "--config.correlate.truth=nasbench101_npz:{}/cut.npz"),
        "cut.npz",
    ),
    "no genotype": (
        "score",
        (*SMALL, "--config.score.genotypes={}/numbers.json"),
        "genotype 0 of",
    ),
    "nothing to prune by": (
        "search",
        (*PRUNE, "--config.search.decimals=0"),
        "pruning has nothing to choose by: without any of the 24 operations of nasbench201",
    ),
    "prune nothing": ("search", (*PRUNE, "--config.search.prune_number=0"), "prune_number must"),
    "a number": (
        "score",
        (*SMALL, f"--config.score.num={LONG}"),
        "score.num must be an integer from 1 to 1000",
    ),
    "a size": (
        "score",
        (*SMALL, f"--config.space.image_size={LONG}"),
        "image_size of autoformer_t",
    ),
    "other strategy": (
        "search",
        (*SEARCH, "--config.search.num=0"),
        "search.num must be an integer",
    ),
    "bins": (
        "libra",
        (*LIBRA, f"--config.libra.options.n_bins={LONG}"),
        "n_bins must be a string or",
    ),
    "networks": ("profile", (*SMALL, f"--config.profile.num={LONG}"), "profile.num must be an int"),
    "another's networks": (
        "search",
        (*SEARCH, "--config.score.num=-3"),
        "score.num must be an int",
    ),
    "parts of a batch": (
        "train",
        (*TRAIN, "--config.step.accumulate=7"),
        "step.accumulate must divide batch_size 32, got 7",
    ),
    "held out": ("train", (*TRAIN, "--config.data.hold_out=nan"), "data.hold_out must be a number"),
    "rule of bins": (
        "score",
        (*SMALL, "--config.options.lswag.bins=x"),
        "bins of lswag must be one of",
    ),
    "profile's bins": (
        "profile",
        (*SMALL, "--config.options.lswag.bins=x"),
        "options.lswag.bins of layer_profile must be one of",
    ),
    "resamples": (
        "correlate",
        (*CORRELATE, "--config.correlate.resamples=-1"),
        "correlate.resamples must be an integer from 0",
    ),
    "own objective": (
        "search",
        (*SMALL, "--config.search.objectives=params,fractions:Fraction"),
        "error: fractions:Fraction must be a Proxy",
    ),
    "no flagfile": ("score", ("--flagfile=/nope",), "'/nope'"),
    "a space that ends": ("score", (*SMALL, "--config.space.name=sys:exit"), "SystemExit"),
    "another's key": ("train", (*TRAIN, "--config.score.num=3"), "there is no --config.score.num"),
    "tau": ("profile", (*SMALL, "--config.profile.tau=-1"), "profile.tau must be a number of"),
    "a table cut off": ("report", ("{}/correlated",), "correlation.csv cannot be read as a table"),
    "not for this": ("report", ("{}/correlated", "--by=swap"), "--by, --proxies, --again and --tr"),
    "rows without a number": ("report", ("{}/null",), "seconds of row 1 of "),
    "rows without a column": ("report", ("{}/run",), "('a') lacks genotype, params, macs"),
}


@pytest.fixture
def folder(tmp_path):
    """Files that are not what they should be."""
    files = {
        "file": "x",
        "dict.py": "def get_config():\n    return {}\n",
        "none.py": "def get_config():\n    pass\n",
        "raises.py": "def get_config():\n    raise RuntimeError('oh')\n",
        "syntax.py": "def get_config(:\n",
        "empty.py": "",
        "columns.csv": "a,b\n1,2\n",
        "numbers.json": "[3, null]",
        "deep.json": "[" * 100_000 + "]" * 100_000,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "header.csv").write_bytes("gen\xf6type,b\n1,2\n".encode("latin-1"))
    (tmp_path / "link").symlink_to(tmp_path / "nothing" / "there")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n")[:-9])
    config = '{"space": {"name": "x"}, "proxies": {"swap": {"name": "swap"}}}'
    for name, row in (("run", '{"id": "a"}'), ("null", NULL)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "archive.jsonl").write_text(f"{row}\n")
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "correlated").mkdir()
    (tmp_path / "correlated" / "correlation.csv").write_text("dataset,proxy,rho\na,b")
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_sentence(name, folder):
    binary, arguments, expected = CASES[name]
    arguments = [argument.format(folder) for argument in arguments]
    if binary != "report" and not any(a.startswith("--workdir") for a in arguments):
        arguments.append(f"--workdir={folder}/out")
    result = run(binary, *arguments, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert last.startswith("error: ")
    assert expected in last
    assert last.isprintable()
    assert not (folder / "out" / "scores.csv").exists()
