"""The command line: help at once, bad input in one line, settings of a result as JSON."""

import errno
import json
import re
import resource
import subprocess
import sys
from inspect import signature, unwrap
from itertools import chain
from typing import get_type_hints

import pandas as pd
import pytest
import typer

from conftest import write_scores, write_summary
from spaarsist import __version__
from spaarsist.__main__ import FOLDER, STEM, WRITTEN, app, main
from spaarsist.artefacts import footer, write_provenance
from spaarsist.evaluation.summary import on
from spaarsist.plan import MAKERS

GROUP = typer.main.get_command(app)
VERBS = GROUP.commands
HEAVY = {"pydantic", "rich", "yaml", "numpy", "pandas", "torch"}


@pytest.fixture
def spaarsist(monkeypatch, capsys):
    """Call the command line in this process: gives exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["spaarsist", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def complaint(spaarsist):
    """What the command line says of bad input: the one line, without the program's name."""

    def call(*arguments):
        code, out, err = spaarsist(*arguments)
        (line,) = err.splitlines()
        assert code == 1 and out == "" and line.startswith("spaarsist: ")
        return line.removeprefix("spaarsist: ")

    return call


def test_help_answers_at_once():
    """The real program, timed in seconds of its own, and what it imported."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-X", "importtime", "-m", "spaarsist", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert all(verb in result.stdout for verb in VERBS)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "typer" in imported and not imported & HEAVY


def test_bad_input_ends_the_real_program_too():
    command = [sys.executable, "-m", "spaarsist", "table", "nothing"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.startswith("spaarsist: there is no table 'nothing'")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        GROUP([verb, "--help"], prog_name="spaarsist")
    shown = capsys.readouterr().out
    assert end.value.code == 0 and shown.startswith(f"Usage: spaarsist {verb} ")
    assert len(shown.split("\n\n")[1].split()) > 3, "it says what the verb is for"


def test_every_verb_stands_under_one_heading(spaarsist):
    code, shown, _ = spaarsist("--help")
    heading, *sections = re.split(r"^(\w.*):\n", shown[shown.index("\nOptions:") :], flags=re.MULTILINE)[3:]
    sections = dict(zip([heading, *sections[1::2]], sections[::2], strict=True))
    listed = {heading: re.findall(r"^  (\S+)", text, flags=re.MULTILINE) for heading, text in sections.items()}
    assert code == 0 and [*sections] == [*dict.fromkeys(verb.rich_help_panel for verb in VERBS.values())]
    assert all(listed.values()) and sorted(chain(*listed.values())) == sorted(VERBS)


def test_version(spaarsist):
    assert spaarsist("--version") == (0, f"spaarsist {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "Missing option '--train-list'"),
        (["no-such-verb"], "No such command 'no-such-verb'"),
        (["table"], "Missing argument 'name'"),
        (["metrics", "--scores", "none.parquet"], "'none.parquet' does not exist"),
        (["train", "--seed", "4294967296"], "less than or equal to 4294967295"),
    ],
)
def test_wrong_usage(spaarsist, arguments, message):
    code, _, err = spaarsist(*arguments)
    assert code == 2 and message in err and "Traceback" not in err


def test_bad_input_is_one_line_and_exit_code_one(complaint, tmp_path):
    (tmp_path / "p.tsv").write_text("T_1 T_2 F - - - AC3 A05 fake -\n")
    options = ["--protocol", tmp_path / "p.tsv", "--audio", tmp_path, "--output", tmp_path / "o.tsv"]
    said = complaint("trials", *options, "--format", "asvspoof5")
    assert said == f"{tmp_path}/p.tsv, line 1: label 'fake'; expected bonafide or spoof"
    assert not (tmp_path / "o.tsv").exists()
    assert "expected one of asvspoof5, asvspoof2019, asvspoof2021, in_the_wild, list" in complaint(
        "trials", *options, "--format", "asvspoof"
    )


@pytest.mark.parametrize(
    ("verb", "outputs"),
    [
        ("export-scores", {"output": "scores"}),
        ("import-scores", {"output": "scores", "trial-list": "t"}),
        ("import-scores", {"output": "o", "trial-list": "key"}),
        ("import-scores", {"output": "o", "trial-list": "o"}),
    ],
)
def test_nothing_is_written_over_what_is_read(complaint, tmp_path, verb, outputs):
    """Refused before the work, whatever else is wrong with these files."""
    files = {name: tmp_path / name for name in ("scores", "key")}
    for path in files.values():
        path.write_text("as it was")
    given = {"system": "A", "variant": "05"} | files
    given |= {option: tmp_path / name for option, name in outputs.items()}
    known = {option.name.replace("_", "-") for option in VERBS[verb].params}
    said = complaint(verb, *chain(*((f"--{name}", value) for name, value in given.items() if name in known)))
    assert said.startswith(f"{tmp_path}/")
    assert {path.read_text() for path in files.values()} == {"as it was"}
    assert {path.name for path in tmp_path.iterdir()} == {*files}


@pytest.mark.parametrize(
    ("verb", "option", "text"),
    [("compare", "pair", "AST-05-05"), ("compare", "pair", "A/"), ("calibrate", "trial-list", "eval.tsv")],
)
def test_pairs_of_names(complaint, tmp_path, verb, option, text):
    (tmp_path / "a").touch()
    needed = {
        "compare": ("metrics", "replicates"),
        "calibrate": ("dev-scores", "dev-list", "scores"),
    }[verb]
    files = chain(*((f"--{name}", tmp_path / "a") for name in needed))
    said = complaint(verb, *files, f"--{option}", text, "--output", tmp_path / "o")
    assert said.startswith(f"--{option} {text}: expected two names with ")


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("AST-03-Mag", "'Mag' names no variant"),
        ("AST-15-05", "'15' names no variant"),
        ("MHFA", "system MHFA: no such back-end; there are none"),
    ],
)
def test_bad_systems(spaarsist, tmp_path, system, message):
    options = ["--output", tmp_path / "a", "--breakdown", tmp_path / "b"]
    code, _, err = spaarsist("complexity", *options, "--system", system)
    said = err.splitlines()[-1]  # before it stands how far it came
    assert code == 1 and said.startswith("spaarsist: ") and message in said and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", MAKERS)
def test_results_are_listed(spaarsist, kind):
    code, out, _ = spaarsist(kind, "list")
    assert code == 0
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        [n, title] for n, (title, _) in MAKERS[kind].items()
    ]


@pytest.mark.parametrize("kind", MAKERS)
def test_an_unknown_result_is_answered_with_those_there_are(complaint, kind):
    assert complaint(kind, "table9") == f"there is no {kind} 'table9'; there are {', '.join(MAKERS[kind])}"


def test_a_result_without_a_place_to_go(complaint):
    assert complaint("table", "table1") == "table table1: --output-stem says where it goes; name it"
    assert complaint("benchmark", "backend") == "benchmark backend: --output says where it goes; name it"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ('{"systems": ["MHFA"]}', r"macs_by_module: breakdown: missing.*"),
        ('{"breakdown": "b.tsv", "systems": ["MHFA"], "colour": "red"}', r"macs_by_module: colour: no such key.*"),
        ('{"breakdown": "b.tsv", "systems": 5}', r"macs_by_module: systems: Input should be .*"),
        ('{"breakdown": "b.tsv", "systems": ["MHFA", 5]}', r"macs_by_module: systems\[1\]: Input should be .*"),
        ('["breakdown"]', r"\[\"breakdown\"\]: cannot be read .*"),
        ("none.yaml", r"none\.yaml: cannot be read \(No such file or directory\)"),
    ],
)
def test_bad_settings_are_named(complaint, tmp_path, settings, named):
    said = complaint("figure", "macs_by_module", "--settings", settings, "--output-stem", tmp_path / "f")
    assert re.fullmatch(named, said)


def test_settings_that_are_no_json(complaint, tmp_path):
    said = complaint("figure", "macs_by_module", "--settings", '{"breakdown": ', "--output-stem", tmp_path / "f")
    assert said.startswith("the JSON text given, line 1, column ") and "not valid YAML or JSON" in said


def test_what_made_the_scores_is_said_below_a_table(spaarsist, tmp_path):
    """From settings in a file as from the text: `provenance` is no argument of the table, but becomes its footer."""
    metrics, statistics = ("eer", "min_dcf", "act_dcf", "cllr", "ece"), ("mean", "std", "ci_low", "ci_high")
    cells = {"home.n_seeds": 1, "n_params": 1, "n_macs": 1}
    cells |= {on("home", metric, statistic): 0.1 for metric in metrics for statistic in statistics}
    settings = {
        "summary": write_summary(tmp_path / "s.tsv", {"MHFA": cells}),
        "composite": tmp_path / "composite.tsv",
        "kind": "table2",
        "systems": ["MHFA"],
        "corpora": [["home", "Home"]],
        "provenance": tmp_path / "p.json",
    }
    pd.DataFrame({"system": ["MHFA"], "composite": [1.0]}).to_csv(settings["composite"], sep="\t", index=False)
    scores = write_scores(tmp_path / "a.parquet", {"trial_id": ["a"]}, system="MHFA", seed=4, corpus="home")
    write_provenance([scores], settings["provenance"], "c0ffee")
    text = json.dumps(settings, default=str)
    (tmp_path / "settings.yaml").write_text(text)
    for given in (text, tmp_path / "settings.yaml"):
        code, *_ = spaarsist("table", "table2", "--settings", given, "--output-stem", tmp_path / "t")
        assert code == 0 and "config c0ffee; seed 4" in (tmp_path / "t.md").read_text()
        assert (tmp_path / "t.md").read_text().endswith(f"\n\n{footer(settings['provenance'])}\n")
        (tmp_path / "t.md").unlink()


def written():
    """Every option that says what a verb writes, with what kind it is."""
    for name, verb in VERBS.items():
        hints = get_type_hints(unwrap(verb.callback), include_extras=True)
        for option, hint in hints.items():
            for kind in {*getattr(hint, "__metadata__", ())} & {*WRITTEN}:
                yield name, option, kind


def arguments(name, tmp_path, **given):
    """What a verb cannot do without, made up; the files are there and empty."""
    (tmp_path / "input").touch()
    (tmp_path / "folder").mkdir(exist_ok=True)
    values = {"seed": 1, "system": "AST-05", "pair": "a/b", "k_infer": 0.5, "stack_temperature": 1, "corpus": "a"}
    values |= {"settings": "{}", "downloads": "{}", "recipe": "{}", "form": "list", "variant": "05", "name": "table1"}
    values |= {"release": "a", "config_hash": "a", "trial_list": "a=b"}
    function = unwrap(VERBS[name].callback)
    hints = get_type_hints(function, include_extras=True)
    for key, parameter in signature(function).parameters.items():
        if parameter.default is not parameter.empty and key not in given:
            continue
        about = next(mark for mark in hints[key].__metadata__ if hasattr(mark, "param_decls"))
        value = given.get(key, values.get(key, tmp_path / "new" / key))
        if about.exists and key not in given:
            value = tmp_path / ("input" if about.file_okay else "folder")
        if not isinstance(about, typer.models.ArgumentInfo):
            # In an annotation the first argument is a name
            yield about.default if str(about.default).startswith("--") else f"--{key.replace('_', '-')}"
        yield value


@pytest.mark.parametrize(("name", "option", "kind"), [*written()])
def test_no_verb_begins_what_it_cannot_write(complaint, tmp_path, name, option, kind):
    """A folder where a file goes, a file where a folder does, a place below a file: said before any input is read."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a.tsv").mkdir()
    (tmp_path / "b").touch()
    before = sorted(tmp_path.rglob("*"))
    place = tmp_path / ("b" if kind == FOLDER else "a")
    said = complaint(name, *arguments(name, tmp_path, **{option: place}))
    assert said.startswith(f"{place}{'.tsv' * (kind == STEM)}: is a f") and "; name a" in said
    said = complaint(name, *arguments(name, tmp_path, **{option: tmp_path / "b" / "c"}))
    assert "cannot be written below" in said and said.endswith("b, which is a file; name another place")
    assert {*tmp_path.rglob("*")} - {*before} <= {tmp_path / "input", tmp_path / "folder"}


@pytest.mark.parametrize(
    "name", [name for name, verb in VERBS.items() if "checkpoint" in {p.name for p in verb.params}]
)
def test_every_checkpoint_may_lie_on_the_hub(complaint, tmp_path, name):
    """One place finds it, whichever verb asks; here it is not told which commit."""
    options = [*arguments(name, tmp_path, checkpoint="user/name@main")]
    assert complaint(name, *options).startswith(
        "user/name@main: no such folder; of a checkpoint on the Hugging Face hub"
    )


def test_marks_name_what_verbs_write():
    """A verb that writes says so by marks, or its outputs would not be looked at."""
    marked = {name for name, *_ in written()}
    assert {name for name, verb in VERBS.items() if name not in marked} == {"show", "claims", "departures"}


@pytest.mark.parametrize("option", ["trial_list", "scores", "replicates"])
def test_no_output_replaces_another_file_of_the_call(complaint, tmp_path, option):
    given = {name: tmp_path / name for name in ("scores", "trial_list", "replicates", "output")}
    for name in ("scores", "trial_list"):
        given[name].write_text("precious")
    (tmp_path / "link").symlink_to(given[option])
    for place in (given[option], tmp_path / "." / option, tmp_path / "link"):
        said = complaint("metrics", *arguments("metrics", tmp_path, **given | {"output": place}))
        assert "this command reads it, or writes it twice" in said
    assert given["scores"].read_text() == given["trial_list"].read_text() == "precious"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.tsv"),
         "a.tsv: No space left on device; free some space there and call again"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/a"), "/data/a: Permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".a.part", None, "a"), "a: Is a directory"),
        (OSError("first line\nlast line"), "a file: last line"),
        (OSError(), "a file: OSError"),
        (MemoryError(), "not enough memory (MemoryError); ask for less at once"),
        (MemoryError("Unable to allocate 8 TiB"), "not enough memory (Unable to allocate 8 TiB); ask for less at once"),
        (RuntimeError("CUDA out of memory. Tried\nmore"),
         "not enough memory (CUDA out of memory. Tried); ask for less at once"),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_one_line(complaint, monkeypatch, error, line):
    monkeypatch.setattr("spaarsist.reporting.overview.overview", lambda _: (_ for _ in ()).throw(error))
    assert complaint("show") == line


def test_a_defect_keeps_its_traceback(spaarsist, monkeypatch):
    monkeypatch.setattr("spaarsist.reporting.overview.overview", lambda _: (_ for _ in ()).throw(RuntimeError("odd")))
    with pytest.raises(RuntimeError, match="odd"):
        spaarsist("show")
