"""The Slurm profile against the rules; needs no Slurm."""

import re
from pathlib import Path

import pytest
import yaml
from snakemake_executor_plugin_slurm.partitions import read_partition_file

from spaarsist.plan import BENCHMARKS

REPOSITORY = Path(__file__).parents[2]
PROFILE = REPOSITORY / "workflow" / "profiles" / "slurm"
SOURCES = "\n".join(path.read_text() for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")))
# What `use rule` takes over is in the rule that it names; rules in a loop have a name of the plan's
RULES = re.findall(r"^ *rule ?(\w*):\n((?: +.*\n|\n)+)", SOURCES, re.MULTILINE)


SUBMITTED = [(name or "of the plan", text) for name, text in RULES if "localrule: True\n" not in text]


@pytest.mark.parametrize("text", [text for _, text in SUBMITTED], ids=[name for name, _ in SUBMITTED])
def test_every_submitted_rule_says_what_it_needs(text):
    """Nothing is left to defaults of Snakemake or of a cluster."""
    assert len(SUBMITTED) > 10 and re.search(r"^ +threads: .+$", text, re.MULTILINE)
    assert re.search(r"^ +mem_mb=.+,$", text, re.MULTILINE)
    runtime = re.search(r"^ +runtime=(\d+),$", text, re.MULTILINE)
    limits = {p.name: p.limits.max_runtime for p in read_partition_file(PROFILE / "partitions.yaml")}
    assert int(runtime[1]) <= limits["gpu" if " gpu=" in text else "cpu"]


def test_the_profile_names_rules_that_exist():
    """Snakemake is silent about others."""
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    assert {*profile["set-resources"]} <= {name for name, _ in RULES} | {f"benchmark_{name}" for name in BENCHMARKS}


def test_downloads_run_where_there_is_a_network():
    fetch = next(text for name, text in RULES if name == "fetch")
    assert re.search(r"^ +localrule: True$", fetch, re.MULTILINE)
