"""The Slurm profile against the rules; needs no Slurm."""

import re
from pathlib import Path

import pytest
import yaml
from snakemake_executor_plugin_slurm.partitions import read_partition_file

REPOSITORY = Path(__file__).parents[2]
PROFILE = REPOSITORY / "workflow" / "profiles" / "slurm"
SOURCES = "\n".join(path.read_text() for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")))
# What `use rule` takes over is in the rule that it names
RULES = re.findall(r"^ *rule (\w+):\n((?: +.*\n|\n)+)", SOURCES, re.MULTILINE)


@pytest.mark.parametrize(("name", "text"), RULES, ids=[name for name, _ in RULES])
def test_every_rule_says_what_it_needs(name, text):
    """Nothing is left to defaults of Snakemake or of a cluster."""
    assert re.search(r"^ +threads: .+$", text, re.MULTILINE)
    assert re.search(r"^ +mem_mb=.+,$", text, re.MULTILINE)
    runtime = re.search(r"^ +runtime=(\d+),$", text, re.MULTILINE)
    limits = {p.name: p.limits.max_runtime for p in read_partition_file(PROFILE / "partitions.yaml")}
    assert int(runtime[1]) <= limits["gpu" if " gpu=" in text else "cpu"]


def test_the_profile_names_rules_that_exist():
    """Snakemake is silent about others."""
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    assert {*profile["set-resources"]} <= {name for name, _ in RULES}
    local = re.findall(r"^ *localrules:\n((?: +\w+,\n)+)", SOURCES, re.MULTILINE)
    named = {name for block in local for name in re.findall(r"\w+", block)}
    assert named <= {*re.findall(r"^ *(?:rule|use rule \w+ as) (\w+)", SOURCES, re.MULTILINE)} and "fetch" in named
