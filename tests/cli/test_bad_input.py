"""Every bad input ends in one line on standard error, exit code 2, nothing on standard output and no file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from probseq import datasets

EARTHQUAKES = datasets.path("earthquakes")
GOOD = "t,x,y\n" + "".join(f"{i},{i * 7 % 5 + 1},{i}\n" for i in range(30))
DAYS = "t,x\n" + "".join(f"2020-01-{day:02d},{day}\n" for day in range(1, 29) if day != 9)

# name of the row: (text or bytes of the file, options after `probseq fit FILE`, a part of the message)
FIT = {
    "empty file": ("", "", "got an empty file"),
    "header only": ("t,x\n", "", "got only a header"),
    "binary file": (b"\x00\x01\x02" * 50, "", "got binary data"),
    "not UTF-8": (b"x\n1\n2\xff\n", "", "must be UTF-8 text"),
    "a line too short": ("t,x\n1,2\n3\n", "", "got 1 at line 3"),
    "a name twice": ("x,x\n1,2\n3,4\n", "", "column names must be unique"),
    "no such column": ("t,y\n1,2\n", "", "got 'x'; choose from t, y"),
    "the same column twice": (GOOD, "--column x", "each column must have one use"),
    "text in numbers": ("x\n1\ntwo\n3\n", "", "got 'two' at line 3"),
    "infinity": ("x\n1\ninf\n3\n", "--family gaussian", "got inf at line 3"),
    "all missing": ("t,x\n1,\n2,\n3,\n", "", "at least one observed row"),
    "constant series": ("x\n" + "5\n" * 20, "--family gaussian", "x must vary"),
    "one row": ("x\n5\n", "--family gaussian --states 1", "x must vary"),
    "negative counts": ("x\n1\n-2\n3\n", "", "got -2 at step 1"),
    "fractional counts": ("x\n1\n2.5\n3\n", "", "got 2.5 at step 1"),
    "zeros for a gamma": ("x\n1\n0\n3\n", "--family gamma", "got 0 at step 1"),
    "zeros for a log-normal": ("x\n1\n0\n3\n", "--family log-normal", "got 0 at step 1"),
    "zeros only for a hurdle": ("x\n0\n0\n0\n", "--family hurdle-gamma", "must be nonzero at least once"),
    "twos for a Bernoulli": ("x\n1\n0\n2\n", "--family bernoulli", "got 2 at step 2"),
    "two columns for one": (GOOD, "--column y", "observations must be one column"),
    "two columns of symbols": (GOOD, "--column y --family categorical", "symbols must stand in one column"),
    "more states than steps": ("x\n1\n2\n3\n", "--states 4", "must not be more than the observed steps, 3, got 4"),
    "no states": (GOOD, "--states 0", "must be K or K1:K2"),
    "states the wrong way round": (GOOD, "--states 3:1", "got '3:1'"),
    "states in letters": (GOOD, "--states two", "got 'two'"),
    "states half given": (GOOD, "--states 1:", "got '1:'"),
    "unknown family": (GOOD, "--family poison", "did you mean poisson?"),
    "unsorted times": ("t,x\n2,1\n1,3\n3,4\n", "--time t", "got 1 after 2 at line 3"),
    "repeated times": ("t,x\n1,1\n1,3\n3,4\n", "--time t", "got 1 twice at line 3"),
    "a gap": (DAYS, "--time t", "after 2020-01-08"),
    "times that are none": ("t,x\nyes,1\nno,3\n", "--time t", "got 'yes' at line 2"),
    "gaps without times": (GOOD, "--fill-gaps", "must have a time column"),
    "a row without group": ("g,x\na,1\n,2\n", "--group g", "got none at line 3"),
    "a seed in letters": (GOOD, "--seed x", "--seed"),
    "a fractional seed": (GOOD, "--seed 1.5", "--seed"),
    "a negative seed": (GOOD, "--seed -1", "--seed"),
    "no restarts": (GOOD, "--restarts 0", "restarts must be at least 1"),
    "unknown method": (GOOD, "--method mcmc", "--method"),
    "unknown option": (GOOD, "--frobnicate", "No such option: --frobnicate"),
    "out is a file": (GOOD, "--out in.csv", "a file is there"),
    "out is under a file": (GOOD, "--out in.csv/fit", "in.csv is a file"),
}


def check(outcome: tuple[int, str, str], said: str) -> None:
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("probseq: ") and said in err
    assert "Traceback" not in err and len(err) > 30


@pytest.mark.parametrize("row", FIT)
def test_fit_refuses(row: str, run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, options, said = FIT[row]
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    given = options.split()
    if "--states" not in given:
        given += ["--states", "2"]
    if "--family" not in given:
        given += ["--family", "poisson"]
    check(run("fit", "in.csv", "--column", "x", *given), said)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (">a\nACGT\n", "--family poisson", "use --family categorical"),
        (">a\nACGT\n", "--family categorical --column x", "without columns, got 'x'"),
        ("ACGT\n", "--family categorical", "must start with '>'"),
        (">a\nACQE\n", "--family categorical", "got 'Q' at base 2 of record 'a'"),
        ("", "--family categorical", "got an empty file"),
        (">a\n>b\nACGT\n", "--family categorical", "every record must have at least one base"),
    ],
)
def test_fit_refuses_a_fasta_file(content: str, options: str, said: str, run: Callable, tmp_path: Path) -> None:
    (tmp_path / "in.fa").write_text(content)
    check(run("fit", tmp_path / "in.fa", "--states", "1", *options.split()), said)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fit", "Missing argument 'FILE'; try 'probseq fit --help'."),
        ("fit x.csv --family poisson", "Missing option '--states'"),
        ("fit x.csv --states 2", "Missing option '--family'"),
        ("fit {tmp}/none.csv --column x --states 2 --family poisson", "must be an existing file"),
        ("fit {tmp} --column x --states 2 --family poisson", "got a directory"),
        ("fit {good} --states 2 --family poisson", "got no --column"),
        ("frobnicate", "No such command 'frobnicate'"),
        ("--frobnicate", "No such option: --frobnicate"),
        ("decode {tmp}/none {good}", "got no fit.json"),
        ("decode {tmp} {good}", "got no fit.json"),
        ("decode {good} {good}", "must be a directory, got a file"),
        ("decode {saved} {tmp}/none.csv", "must be an existing file"),
        ("decode {saved} {tmp}/other.csv", "got 'count'"),
        ("decode {saved} {tmp}/text.csv", "got 'many' at line 2"),
        ("decode {saved} {tmp}/negative.csv", "probability zero at step 1"),
        ("decode {saved} {good} --out {tmp}", "a directory is there"),
        ("forecast {saved} {good}", "Missing option '--horizon'"),
        ("forecast {saved} {good} --horizon 0", "horizon must be at least 1, got 0"),
        ("forecast {saved} {good} --horizon soon", "--horizon"),
        ("forecast {saved} {good} --horizon 2 --quantiles 0.5,1.5", "between 0 and 1, got '0.5,1.5'"),
        ("forecast {saved} {good} --horizon 2 --quantiles half", "got 'half'"),
        ("forecast {saved} {good} --horizon 2 --out {good}/x.csv", "is a file"),
        ("simulate {saved} --steps 0", "got 0 and 1"),
        ("simulate {saved} --sequences 0", "at least 1"),
        ("report {saved} {good} --out {tmp}", "a directory is there"),
        ("report {saved} {good} --horizon 0 --out {tmp}/r.html", "horizon must be at least 1"),
        ("datasets nile", "got 'nile'"),
        ("datasets earthquake --out {tmp}", "a directory is there"),
        ("datasets --out {tmp}/x.csv", "name of a data set, got none"),
        ("demo --out {good}", "a file is there"),
    ],
)
def test_commands_refuse(command: str, said: str, run: Callable, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("year,number\n1900,3\n")
    (tmp_path / "text.csv").write_text("year,count\n1900,many\n1901,4\n")
    (tmp_path / "negative.csv").write_text("year,count\n1900,3\n1901,-3\n")
    before = sorted(tmp_path.iterdir())
    check(run(*command.format(tmp=tmp_path, good=EARTHQUAKES, saved=saved).split()), said)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("fit.json", None, "got no fit.json"),
        ("fit.safetensors", None, "got no fit.safetensors"),
        ("fit.json", 100, "must be whole"),
        ("fit.safetensors", 100, "must be whole"),
        ("fit.json", "{}", "must be whole"),
        ("fit.json", "[1, 2]", "must be whole"),
        ("fit.safetensors", "not tensors", "must be whole"),
        ("source.json", 50, "reading options of a saved fit must be whole"),
        ("source.json", '{"format": 99}', "another format"),
        ("source.json", "[]", "must be whole"),
    ],
)
def test_a_damaged_directory_is_refused(
    file: str, content: str | int | None, said: str, run: Callable, saved: Path, tmp_path: Path
) -> None:
    place = tmp_path / "damaged"
    shutil.copytree(saved, place)
    if content is None:
        (place / file).unlink()
    elif isinstance(content, int):
        (place / file).write_bytes((place / file).read_bytes()[:content])
    else:
        (place / file).write_text(content)
    check(run("decode", place, EARTHQUAKES), said)


def test_an_unknown_symbol_is_refused_where_it_stands(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("w\n" + "sun\nrain\n" * 5)
    (tmp_path / "new.csv").write_text("w\nsun\nsnow\n")
    place = tmp_path / "fit"
    assert run("fit", tmp_path / "w.csv", "-c", "w", "--states", "1", "--family", "categorical", "-o", place).code == 0
    check(run("decode", place, tmp_path / "new.csv"), "snow")
