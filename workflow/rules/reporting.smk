# What the reader sees; made from files alone.


rule table1:
    input:
        metrics=METRICS,
        complexity=f"{RESULTS}/complexity/paper_size.tsv",
        modules=modules("reporting/tables.py", "config.py"),
    output:
        table=report(
            multiext(f"{RESULTS}/tables/table1", ".tsv", ".md", ".tex"),
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "1"},
        ),
    log:
        f"{RESULTS}/logs/table1.log",
    benchmark:
        f"{RESULTS}/benchmarks/table1.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stem=output_stem,
        metrics=options("--metrics", METRICS),
        corpora=titles(),
        label=config["label"],
        cost=json.dumps(config["evaluation"]["cost_model"], sort_keys=True),
        confidence=config["evaluation"]["confidence"],
    shell:
        "python -m spaarsist table1 {params.metrics} --complexity {input.complexity:q} {params.corpora}"
        " --output-stem {params.stem:q} --label {params.label:q} --cost-model {params.cost:q}"
        " --confidence {params.confidence} > {log} 2>&1"


rule figure_det:
    input:
        scores=SCORES,
        trials=TRIALS,
        modules=modules(
            "reporting/figures.py", "reporting/tables.py", "evaluation/metrics.py"
        ),
    output:
        report(
            multiext(f"{RESULTS}/figures/det", ".png", ".pdf", ".tsv"),
            caption="../report/det.rst",
            category="Figures",
            labels={"figure": "DET curves"},
        ),
    log:
        f"{RESULTS}/logs/figure_det.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_det.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        stem=output_stem,
        scores=options("--scores", SCORES),
        trials=trial_lists(),
        systems=options("--system", config["systems"]["in_figures"]),
        corpora=titles(),
        label=config["label"],
    shell:
        "python -m spaarsist figure-det {params.scores} {params.trials} {params.systems} {params.corpora}"
        " --output-stem {params.stem:q} --label {params.label:q} > {log} 2>&1"


rule figure_eer_vs_macs:
    input:
        table=f"{RESULTS}/tables/table1.tsv",
        modules=modules("reporting/figures.py", "reporting/tables.py"),
    output:
        report(
            multiext(f"{RESULTS}/figures/eer_vs_macs", ".png", ".pdf", ".tsv"),
            caption="../report/eer_vs_macs.rst",
            category="Figures",
            labels={"figure": "EER against MACs"},
        ),
    log:
        f"{RESULTS}/logs/figure_eer_vs_macs.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_eer_vs_macs.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stem=output_stem,
        corpora=titles(),
        label=config["label"],
    shell:
        "python -m spaarsist figure-eer-vs-macs --table {input.table:q} {params.corpora}"
        " --output-stem {params.stem:q} --label {params.label:q} > {log} 2>&1"


rule publish:
    input:
        files=TABLES + FIGURES,
        scores=SCORES,
    output:
        directory(f"results/published/{config['experiment']}"),
    log:
        f"{RESULTS}/logs/publish.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        files=options("--file", TABLES + FIGURES),
        scores=options("--scores", SCORES),
        benchmarks=f"{RESULTS}/benchmarks",
    shell:
        "python -m spaarsist publish {params.files} {params.scores} --benchmarks {params.benchmarks:q} --output {output:q} > {log} 2>&1"
