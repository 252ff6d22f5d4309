"""Every command that the documentation prints can be given: each is parsed, or run dry, as it stands there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from conftest import REPOSITORY
from spaarsist.__main__ import app

PAGES = [
    *REPOSITORY.glob("*.md"),
    *REPOSITORY.glob("docs/**/*.md"),
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
    """(page, command): lines of shell blocks, of comments in YAML, and commands in backticks."""
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
                found.append((page.relative_to(REPOSITORY).as_posix(), words))
    return sorted({*found})


FOUND = commands()


def test_commands_are_found():
    told = {command for _, command in FOUND}
    assert {"make demo", "make facts", "snakemake --cores all paper"} <= told
    assert any(command.startswith("spaarsist score ") for command in told) and len(told) > 30


def of(name):
    return [pytest.param(page, command, id=command[:80]) for page, command in FOUND if command.split()[0] == name]


@pytest.mark.parametrize(("page", "command"), of("snakemake"))
def test_snakemake(page, command, tmp_path):
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


@pytest.mark.parametrize(("page", "command"), [*of("spaarsist"), *of("python")])
def test_spaarsist(page, command, tmp_path, monkeypatch):
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


@pytest.mark.parametrize(("page", "command"), of("make"))
def test_make(page, command):
    target = shlex.split(command)[1]
    if "=" in target:
        target = "demo"
    subprocess.run(["make", "-n", target], cwd=REPOSITORY, check=True, capture_output=True)
