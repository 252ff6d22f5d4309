import sys

from snakemake.jobs import Job
from snakemake.settings.types import RerunTrigger
from snakemake.utils import min_version

min_version("9.0")

sys.path.insert(0, f"{workflow.basedir}/src")
from spaarsist.config import ConfigError, read_mapping

# A wrong configuration stops this as it stops verbs: in one line, where Snakemake would show its own lines too
REFUSED = "spaarsist: config: {}"

# Snakemake names no line of what is no YAML, and of two equal keys it takes the last
try:
    for path in workflow.overwrite_configfiles or [f"{workflow.basedir}/config.yaml"]:
        read_mapping(str(path))
except ConfigError as error:
    sys.exit(REFUSED.format(error))

# A file given by --configfile is a whole configuration: the default one must not shine through it.
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config.yaml"


# What makes a job again is newer input, other input, or another parameter; neither the text of a rule nor the way its
# software came here. What code decides a result is among the parameters, by its meaning, except of corpora, caches,
# trainings and scores: new code never makes these again by itself, but `spaarsist show` names them.
type(workflow).rerun_triggers = property(
    lambda self: {*self.dag_settings.rerun_triggers}
    - {RerunTrigger.CODE, RerunTrigger.SOFTWARE_ENV}
)

# Retries are for what a time limit or a node's death has ended. What a verb has refused, in the last line of its log, it
# would refuse again.
Job.restart_times = property(
    lambda job: 0 if any(map(refused, job.log)) else job.rule.restart_times
)


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"


rule all:
    default_target: True
    input:
        PLAN.tables,
        PLAN.figures,
    message:
        "All tables and figures are there"


rule downloads:
    input:
        sorted({*PLAN.receipts.values()}),
    message:
        "All downloads are verified"


rule scores:
    input:
        PLAN.scores,
    message:
        "All scores are there"


rule tables:
    input:
        PLAN.tables,
    message:
        "All tables are there"


rule figures:
    input:
        PLAN.figures,
    message:
        "All figures are there"


# Verbs write whole files or none: what lies there after a failure is good, and may be another process's.
onstart:
    workflow.execution_settings.keep_incomplete = True
    print(PLAN.outline)


onsuccess:
    if all(os.path.exists(path) for path in PLAN.tables):
        shell(f"python -m spaarsist show {RESULTS}")
