"""What the site has beyond the pages in this folder, all made when it is built.

The first page is the README, the last is what every verb's `--help` prints, and pictures come from where results lie.
"""

import os
import re
from pathlib import Path

import typer.main
from mkdocs.structure.files import File

from spaarsist.__main__ import app

REPOSITORY = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^][]|!?\[[^]]*\]\([^)]*\))*)\]\((?!https?:|#)([^)]+)\)")


def on_files(files, config):
    """Add the README, the command reference, and every picture of the repository that a page shows."""
    readme = re.sub(r"^\[!\[.*\n", "", (REPOSITORY / "README.md").read_text(), flags=re.MULTILINE)  # badges are fetched
    files.append(File.generated(config, "index.md", content=readme))
    files.append(File.generated(config, "commands.md", content=commands()))
    for page in [*files.documentation_pages()]:
        for is_picture, _, target in LINK.findall(page.content_string):
            if is_picture and not files.get_file_from_path(shown := _path(page, target)):
                files.append(File.generated(config, shown, abs_src_path=str(REPOSITORY / shown)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links lead to the site's pages and pictures; what only the repository has is named without a link."""

    def link(match):
        is_picture, text, target = match.groups()
        path, anchor, section = target.partition("#")
        place = _path(page.file, path)
        inside = place if is_picture else place.removeprefix("docs/")
        if path and not files.get_file_from_path(inside):
            return text
        return f"{is_picture}[{text}]({inside if path else ''}{anchor}{section})"

    return LINK.sub(link, markdown)


def commands() -> str:
    """What `spaarsist --help` and `spaarsist <verb> --help` print, as a page with a heading for each verb."""
    group = typer.main.get_command(app)

    def told(name, command, parent=None):
        context = typer.Context(command, info_name=name, parent=parent, terminal_width=100, **app.info.context_settings)
        return context, f"```text\n{command.get_help(context)}\n```\n"

    top, text = told("spaarsist", group)
    verbs = [f"## {name}\n\n{told(name, group.commands[name], top)[1]}" for name in sorted(group.commands)]
    return "\n".join(["# Commands\n", text, *verbs])


def _path(page, target):
    """Path of a link's target within the repository."""
    folder = "" if page.src_uri == "index.md" else "docs"
    return os.path.normpath(f"{folder}/{target}") if folder else os.path.normpath(target)
