# What the reader sees; made from files alone. Which tables and figures there are is told in src/spaarsist/plan.py.

# Rules: table1, table2, table_claims, ..., figure_det, figure_k_sweep, ...
for result in [result for result in PLAN.made if result.kind != "benchmark"]:
    shown, *others = result.outputs

    rule:
        name:
            result.rule
        input:
            settled(result.inputs),
        output:
            others,
            shown=report(
                shown,
                caption=f"../report/{result.caption}.rst",
                category=f"{result.kind.capitalize()}s",
                labels={result.kind: result.title},
            ),
        log:
            f"{RESULTS}/logs/{result.rule}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{result.rule}.tsv"
        localrule: result.local
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000 if result.local else 4000,
            runtime=30,
        params:
            verb=f"{result.kind} {result.name}",
            settings=json.dumps(result.arguments),
            stem=output_stem,
            reads=fingerprint(*IN_CHECKOUT.get(result.rule, {}).values()),
            trials=(
                contents(*config["evaluate_on"])
                if "trials" in result.arguments
                else ""
            ),
            code=code.meaning(result.function, "artefacts.footer"),
        message:
            f"{result.kind.capitalize()}: {result.title}"
        shell:
            "python -m spaarsist {params.verb} --settings {params.settings:q} --output-stem {params.stem:q} > {log} 2>&1"


# What needs no data, and no configuration
rule facts:
    output:
        multiext(f"{FACTS}/", "counts.tsv", "operators.tsv", "quantities.tsv"),
        expand(
            f"{FACTS}/{{table}}.{{form}}",
            table=["macs", "saving", "facts"],
            form=FORMS["table"],
        ),
        expand(
            f"{FACTS}/{{figure}}.{{form}}",
            figure=["saving_against_length", "where_the_work_is"],
            form=FORMS["figure"],
        ),
    log:
        f"{FACTS}/facts.log",
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=6000,
        runtime=20,
    params:
        folder=subpath(output[0], parent=True),
        reads=fingerprint(*IN_CHECKOUT["facts"].values()),
        code=code.meaning("__main__.facts"),
    message:
        "Count, and measure every fact about paper and released code"
    shell:
        "python -m spaarsist facts --output {params.folder:q} --threads {threads} > {log} 2>&1"


rule paper:
    input:
        PLAN.tables,
        PLAN.figures,
        PLAN.calibration,
        PLAN.inspected,
        rules.facts.output,
    output:
        macros=f"{RESULTS}/paper/macros.tex",
        pdf=report(
            f"{RESULTS}/paper/main.pdf",
            caption="../report/paper.rst",
            category="Report",
            labels={"document": "Replication report"},
        ),
    log:
        f"{RESULTS}/logs/paper.log",
    benchmark:
        f"{RESULTS}/benchmarks/paper.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        settings=json.dumps(PLAN.report),
        reads=fingerprint(
            *IN_CHECKOUT["report"].values(),
            "paper/supplement.tex",
            "paper/references.bib",
        ),
        code=code.meaning("__main__.report"),
    message:
        "Fill and compile the report"
    shell:
        "python -m spaarsist report --settings {params.settings:q} --output {output.pdf:q} > {log} 2>&1"


rule publish:
    input:
        files=PLAN.tables + PLAN.figures,
        scores=PLAN.scores,
    output:
        directory(f"results/published/{config['experiment']}"),
    log:
        f"{RESULTS}/logs/publish.log",
    benchmark:
        f"{RESULTS}/benchmarks/publish.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        files=each("files", "--file"),
        scores=each("scores"),
        results=results_folder,
    message:
        "Copy the results to results/published"
    shell:
        "python -m spaarsist publish {params.files} {params.scores} --results {params.results:q} --output {output:q} > {log} 2>&1"
