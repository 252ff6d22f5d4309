"""What the documentation says can be done as it stands there: commands, Python, links, and numbers that are published.

Commands are parsed, or run dry: most of them need an hour, corpora or a GPU. Python is run.
"""

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import torch
import typer.main
import yaml

from conftest import REPOSITORY
from spaarsist import __version__
from spaarsist.__main__ import app
from spaarsist.models import pooling
from spaarsist.names import LABELS
from spaarsist.reporting.figures import systems
from test_architecture import ROOMS

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MARKDOWN = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
PAGES = [
    *MARKDOWN,
    *REPOSITORY.glob("config/*.yaml"),
    *REPOSITORY.glob("workflow/profiles/*/*.yaml"),
    REPOSITORY / "Makefile",
    REPOSITORY / "environment.yml",
]
NOT_RUN = {
    "conda": "conda is not at hand where tests run",
    "source": "a shell's own",
    "pip": "an installation",
    "git": "another tool's",
    "uv": "an installation",
    "cd": "a shell's own",
    "cut": "reads a list that is not there",
}
"""First word of a command -> why it is not tried."""

COMMANDS = ("snakemake", "spaarsist", "make", "python", *NOT_RUN)


def commands():
    """Lines of shell blocks, of comments in YAML, and commands in backticks; each once, on however many pages it is."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        blocks = "\n".join(re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.DOTALL))
        if page.suffix != ".md":
            blocks += "\n".join(re.findall(r"^#\s{2,}(.*)$", text, re.MULTILINE))
        inline = [
            " ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        ]
        for line in [*blocks.splitlines(), *inline]:
            words = line.split("   #")[0].split(" # ")[0].strip()
            if re.match(rf"({'|'.join(COMMANDS)}) \S", words) and not re.search(r"\.\.\.|[<>…|]", words):
                found.append(" ".join(words.split()))
    return sorted({*found})


FOUND = commands()


def test_commands_are_found():
    assert {"make demo", "make facts", "snakemake --cores all paper"} <= {*FOUND}
    assert any(command.startswith("spaarsist score ") for command in FOUND) and len(FOUND) > 50


def of(*names):
    return [pytest.param(command, id=command[:80]) for command in FOUND if command.split()[0] in names]


@pytest.mark.parametrize("command", of("snakemake"))
def test_snakemake(command, tmp_path):
    """A dry run, elsewhere, of what it would do; a target that `--configfile` swallows ends it with an error."""
    words = shlex.split(command)
    if "--report" in words or "--unlock" in words:
        pytest.skip("needs a finished run")
    if "--use-conda" in words and not shutil.which("conda"):
        pytest.skip("conda is not installed")
    shutil.copy(REPOSITORY / "workflow/profiles/slurm/partitions.yaml", tmp_path)
    for word in words:  # what the text has its reader write
        if word.endswith(".yaml") and not (REPOSITORY / word).exists():
            (tmp_path / word).write_text("seeds: [1]\n")
            words[words.index(word)] = str(tmp_path / word)
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile", "--directory", tmp_path, "-n"]
    extra = [] if "--cores" in command or "profile" in command else ["--cores", "1"]
    run = subprocess.run([*snakemake, *extra, *words[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]


@pytest.mark.parametrize("command", of("spaarsist", "python"))
def test_spaarsist(command, tmp_path, monkeypatch):
    """Its verb and options are there; files that it would read are made up."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command.replace("python -m spaarsist", "spaarsist"))
    if words[0] != "spaarsist":
        pytest.skip("another program")
    group = typer.main.get_command(app)
    if len(words) == 1:
        return
    if words[1].startswith("-"):
        assert words[1] in ("--help", "--version")
        return
    verb = group.get_command(None, words[1])
    assert verb is not None, f"no verb {words[1]}"
    if len(words) == 2 and any(parameter.required for parameter in verb.params):
        return  # the verb is named, not called
    for _ in range(10):
        try:
            verb.make_context(words[1], [*words[2:]])
            return
        except typer.BadParameter as error:
            missing = re.search(r"(file|dir|path) '([^']+)' does not exist", error.format_message(), re.IGNORECASE)
            if not missing:
                raise
            place = Path(missing[2])
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir() if missing[1].lower().startswith("dir") else place.touch()


@pytest.mark.parametrize("command", of("make"))
def test_make(command):
    target = shlex.split(command)[1]
    if "=" in target:
        target = "demo"
    subprocess.run(["make", "-n", target], cwd=REPOSITORY, check=True, capture_output=True)


# ---------------------------------------------------------------- Python

RUN_ELSEWHERE = {
    "docs/export.md": "tests/test_export.py",
    "docs/adding.md": "below, each piece where it belongs",
    "docs/own-audio.md, Old checkpoints": "tests/test_checkpoint.py",
}
"""Page, or page and section -> where its Python is tried."""


def python_blocks():
    for page in MARKDOWN:
        name = page.relative_to(REPOSITORY).as_posix()
        for section in re.split(r"^#+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            place = f"{name}, {section.splitlines()[0]}"
            for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
                if not {name, place} & {*RUN_ELSEWHERE}:
                    yield pytest.param(code, id=place)


@pytest.mark.parametrize("code", python_blocks())
def test_python(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "documentation", "exec"), {})


def added(start):
    """The block of docs/adding.md that begins so."""
    (code,) = re.findall(
        rf"```python\n({re.escape(start)}.*?)```", (REPOSITORY / "docs/adding.md").read_text(), re.DOTALL
    )
    return code


def test_the_back_end_that_is_added_as_an_example(monkeypatch):
    """The class in its module, then the test of it."""
    exec(added("class MaxPool"), module := dict(vars(pooling)))
    monkeypatch.setattr(pooling, "MaxPool", module["MaxPool"], raising=False)
    exec(added("from spaarsist.models.pooling import MaxPool"), test := {"torch": torch})
    test["test_max_pool_by_hand"]()


def test_the_figure_that_is_added_as_an_example():
    """The function in its module; what the test of it and the plan say parses."""
    exec(added("def sizes"), module := dict(vars(systems)))
    assert callable(module["sizes"])
    for start in ('"sizes": (', '"sizes": {'):
        ast.parse("{" + added(start) + "}")
    ast.parse(added("def test_sizes"))


# ---------------------------------------------------------------- pages


def prose(text):
    """Paragraphs, items and cells, without code and the targets of links."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"\[?!\[([^]]*)\]\([^)]*\)(\]\([^)]*\))?", r"\1", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^(\s*[-*] |\s*\d+\. |#+ )", r"\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"^\|.*\|$", lambda row: "\n\n" + row[0].replace("|", "\n\n"), text, flags=re.MULTILINE)
    for part in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.!?:])\s+", " ".join(part.split()))


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_sentences_are_short(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("entries, not sentences")
    long = [sentence for sentence in prose(page.read_text(encoding="utf-8")) if len(sentence.split()) > 30]
    assert not long, long


def test_the_readme_is_read_in_one_sitting():
    assert len(README.splitlines()) <= 150
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert headings == [
        "Status",
        "Results at a glance",
        "Quick start",
        "What the demo shows",
        "Use it",
        "How it works",
        "Full replication",
        "Citation and licence",
    ]


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page):
    """Within the repository. `make docs` checks sections too."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_site_shows_every_page():
    site = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())

    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry if isinstance(entry, list) else entry.values()) for page in pages(part)]

    made = ["index.md", "commands.md"]  # by docs/hooks.py
    written = [path.name for path in REPOSITORY.glob("docs/*.md")]
    assert sorted(pages(site["nav"])) == sorted(made + written)


def test_one_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"]
    changelog = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert {project, citation, changelog} == {__version__}


def test_the_readme_knows_the_rooms_and_the_variants():
    assert " → ".join(f"`{room}`" for room in ROOMS) in README
    table = README.split("| name | nodes are scored by |")[1].split("\n\n")[0]
    told = [name for row in table.splitlines()[2:] for name in row.split("|")[1].strip().split(", ")]
    assert {*told} == {name or "(none)" for name in LABELS} - {"Base"} | {"(none)"}


# ---------------------------------------------------------------- numbers


def rows(heading):
    """Cells of the table below a row that begins so, by the name in its first cell."""
    table = README.split(heading)[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]
    return {re.search(r"[A-Z][\w-]*(?=`)", row[0])[0]: row[1:] for row in cells}


def test_sizes_and_macs_are_those_published():
    counts = pd.read_csv(REPOSITORY / "results/published/facts/counts.tsv", sep="\t")
    published = {*counts.select_dtypes("number").to_numpy().ravel().tolist()}
    for system, cells in rows("| back-end |").items():
        for cell in (cells[0], cells[2], cells[4]):
            assert int(cell.split()[0].replace(",", "")) in published, (system, cell)


def test_the_demo_s_numbers_are_those_published():
    tables = REPOSITORY / "results/published/mini/tables"
    published = pd.read_csv(tables / "table1.tsv", sep="\t").set_index("system")
    shown = rows("| system | seen voices |")
    assert [*shown] == [
        "AST-05-05", "AST-05-01", "AST-05-05-Mag", "AST-05-01-Mag", "AST-05-05-Uni", "AST-05-05-Mean",
    ]  # fmt: skip
    for system, cells in shown.items():
        for corpus, cell in zip(("seen_voices", "unseen_voices", "text_to_speech"), cells, strict=True):
            mean, low, high = (100 * published.loc[system, f"{corpus}.eer.{n}"] for n in ("mean", "ci_low", "ci_high"))
            assert cell == f"{mean:.1f} [{low:.1f}, {high:.1f}]", (system, corpus)
