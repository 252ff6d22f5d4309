from snakemake.utils import min_version, validate

min_version("9.0")

# A file given by --configfile is a whole configuration: the default one must not shine through it.
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config.yaml"


validate(config, "workflow/schemas/config.schema.yaml", set_default=False)


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"


rule all:
    default_target: True
    input:
        TABLES,
        FIGURES,


rule downloads:
    input:
        sorted({*RECEIPTS.values()}),


rule scores:
    input:
        SCORES,


rule tables:
    input:
        TABLES,


rule figures:
    input:
        FIGURES,


rule temperature:
    input:
        TRAINED_TEMPERATURES,


rule ablation:
    input:
        TRAINED_VARIANTS,


rule speed:
    input:
        SPEED,


onsuccess:
    print(summary())
