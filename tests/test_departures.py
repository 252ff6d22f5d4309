"""Departures from the paper's text and the released code: told for every key, none of the released recipe."""

from copy import deepcopy

import pytest
import yaml
from snakemake.utils import update_config
from typer.testing import CliRunner

from conftest import REPOSITORY
from spaarsist.__main__ import app
from spaarsist.departures import FIXED, POINTS, UNSAID, departures, tables, value_of
from spaarsist.names import ConfigError
from spaarsist.plan import Plan


def read(*files):
    config = {}
    for file in files:
        update_config(config, yaml.safe_load((REPOSITORY / "config" / file).read_text()))
    return config


PAPER, RELEASED = read("paper.yaml"), read("paper.yaml", "released.yaml")
OTHER = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value / 2 + 0.1,
    str: lambda value: {"batch": "none", "float32": "bfloat16", "random": "centre", "vad": "energy"}[value],
    list: lambda value: value[1:],
    dict: lambda value: value | {"c_fa": 1},
}


def changed(config, switch, value):
    config = deepcopy(config)
    *parents, last = switch.split(".")
    value_of(config, ".".join(parents))[last] = value if parents else None
    return config


def test_released_yaml_has_every_switch_as_the_code_has_it():
    assert [departure for departure in departures(RELEASED) if departure.source != "text"] == []
    assert Plan(deepcopy(RELEASED)).departures == departures(RELEASED)
    assert RELEASED["experiment"] != PAPER["experiment"], "its results go elsewhere"


def test_those_of_the_paper_s_configuration():
    found = {(departure.source, departure.switch.rpartition(".")[2]) for departure in departures(PAPER)}
    ours = {"normalise", "precision", "development_crop", "keep_better_stage", "deterministic", "crop_last"}
    assert found == {("code", switch) for switch in ours} | {("text", "room")}
    texts = [*map(str, departures(PAPER))]
    assert "arithmetic of the front-end: bfloat16 (released code: float32); training.frontend.precision" in texts


@pytest.mark.parametrize(
    "point", [p for p in POINTS if p.code is not UNSAID and "." in p.switch], ids=lambda p: p.switch
)
def test_each_switch_tells(point):
    """One key of the released recipe changed: it departs from the code by that key, and from the text if that says."""
    value = value_of(RELEASED, point.switch)
    assert value == point.code
    (departure,) = [
        d for d in departures(changed(RELEASED, point.switch, OTHER[type(value)](value))) if "code" in d.source
    ]
    assert departure.switch == point.switch and departure.theirs == point.code != departure.ours
    assert departure.source == ("text and code" if point.text == point.code else "code")
    assert str(departure).endswith(point.switch) and point.what in str(departure)


def test_a_key_that_is_not_there():
    config = deepcopy(PAPER)
    del config["training"]["deterministic"]
    with pytest.raises(ConfigError, match=r"training\.deterministic: no such key"):
        departures(config)


def test_each_is_told_once():
    assert len({point.switch for point in POINTS}) == len(POINTS) and len({fixed.what for fixed in FIXED}) == len(FIXED)


def test_the_document_shows_both_tables():
    text = (REPOSITORY / "docs" / "departures.md").read_text()
    expected = tables({"`paper.yaml`": PAPER, "`released.yaml`": RELEASED})
    assert text.endswith("\n\n" + expected), f"docs/departures.md ends in other tables than:\n{expected}"


def test_the_verb():
    files = [str(REPOSITORY / "config" / name) for name in ("paper.yaml", "released.yaml")]
    result = CliRunner().invoke(app, ["departures", *files])
    assert result.exit_code == 0 and result.stdout.splitlines() == [*map(str, departures(RELEASED))]
