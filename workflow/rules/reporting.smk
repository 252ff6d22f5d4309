# What the reader sees; made from files alone.

TITLED = corpora(config["evaluate_on"], titled=True)
DEV_TOO = corpora([config["select_on"], *config["evaluate_on"]], titled=True)
IN_FIGURES = options("--system", config["systems"]["in_figures"])
FROM_SCORES = f"{options('--scores', scores_of(DRAWN))} {trial_lists()}"
FROM_SUMMARY = f"--summary {RESULTS}/tables/summary.tsv"
# The baseline, every variant at the fewest nodes, and the other back-ends
FEWEST = min(pairs(config["systems"]["k_infer"]))
DISSECTED = [
    BASELINE,
    *(
        f"AST-{code(FEWEST[0])}-{column(FEWEST[1], v)}"
        for v in config["systems"]["variants"]
    ),
    *config["backends"],
]
COMPARISONS = [path for path in TABLES if "/comparisons/" in path] + [
    f"{RESULTS}/tables/comparisons/{name}.tsv"
    for name in ("ablation_trained", "temperature_trained")
    if any(Path(path).stem == name for path in THERE)
]
FAMILY_SYSTEMS = [name for name, _ in FAMILIES["baseline"]]
AS_TRAINED = dict(
    zip(
        ("graph", "_", "stack", "_"),
        config["training"]["backend"]["options"]["temperatures"],
    )
)


# Seconds each: on a cluster they run beside Snakemake itself. The three figures drawn from scores read gigabytes.
localrules:
    table1,
    table2,
    table_temperature,
    table_temperature_trained,
    table_differences,
    table_ablation,
    table_ablation_trained,
    table_nodes,
    table_stack_attention,
    table_calibration,
    table_latency,
    table_detector,
    claims,
    claims_with_trained_temperatures,
    figure_training,
    figure_eer_vs_macs,
    figure_eer_vs_latency,
    figure_k_sweep,
    figure_attacks,
    figure_temperature,
    figure_composite,
    figure_macs_by_module,
    figure_temperature_trained,
    figure_differences,
    figure_ablation,
    figure_ablation_trained,
    figure_node_overlap,
    figure_kept_nodes,
    figure_stack_attention,
    figure_calibration,
    figure_latency,
    paper,
    publish,


rule table1:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        composite=f"{RESULTS}/tables/composite.tsv",
        comparisons=f"{RESULTS}/tables/comparisons/baseline.tsv",
        provenance=f"{RESULTS}/tables/provenance.json",
        modules=modules(
            "reporting/tables/systems.py",
            "reporting/tables/layout.py",
            "evaluation/summary.py",
            "config.py",
            "artefacts.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/table1", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/table1.html",
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "1: AASIST and SpAArSIST"},
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
        kind="table1",
        systems=options("--system", TABLE_1),
        stem=output_stem,
        corpora=TITLED,
        label=LABEL,
        cost=json.dumps(config["evaluation"]["cost_model"], sort_keys=True),
        confidence=config["evaluation"]["confidence"],
    shell:
        "python -m spaarsist table systems --summary {input.summary:q} --composite {input.composite:q} --kind {params.kind}"
        " {params.systems} {params.corpora} --comparisons {input.comparisons:q} --output-stem {params.stem:q}"
        " --label={params.label:q} --cost-model {params.cost:q} --confidence {params.confidence}"
        " --provenance {input.provenance:q} > {log} 2>&1"


use rule table1 as table2 with:
    output:
        multiext(f"{RESULTS}/tables/table2", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/table2.html",
            caption="../report/table2.rst",
            category="Tables",
            labels={"table": "2: other back-ends"},
        ),
    log:
        f"{RESULTS}/logs/table2.log",
    benchmark:
        f"{RESULTS}/benchmarks/table2.tsv"
    params:
        kind="table2",
        systems=options("--system", TABLE_2),


use rule table1 as table_temperature with:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        composite=f"{RESULTS}/tables/composite.tsv",
        comparisons=f"{RESULTS}/tables/comparisons/temperature.tsv",
        provenance=f"{RESULTS}/tables/provenance.json",
        modules=modules(
            "reporting/tables/systems.py",
            "reporting/tables/layout.py",
            "evaluation/summary.py",
            "config.py",
            "artefacts.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/temperature", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/temperature.html",
            caption="../report/temperature.rst",
            category="Tables",
            labels={"table": "Softmax temperatures"},
        ),
    log:
        f"{RESULTS}/logs/table_temperature.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_temperature.tsv"
    params:
        kind="temperature",
        systems=options("--system", SWITCHED_SYSTEMS),


use rule table1 as table_temperature_trained with:
    input:
        summary=f"{RESULTS}/tables/summary_with_trained_temperatures.tsv",
        composite=f"{RESULTS}/tables/composite.tsv",
        comparisons=f"{RESULTS}/tables/comparisons/temperature_trained.tsv",
        provenance=f"{RESULTS}/tables/provenance_with_trained_temperatures.json",
        modules=modules(
            "reporting/tables/systems.py",
            "reporting/tables/layout.py",
            "evaluation/summary.py",
            "config.py",
            "artefacts.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/temperature_trained", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/temperature_trained.html",
            caption="../report/temperature.rst",
            category="Tables",
            labels={"table": "Softmax temperatures, trained too"},
        ),
    log:
        f"{RESULTS}/logs/table_temperature_trained.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_temperature_trained.tsv"
    params:
        kind="temperature",
        systems=options(
            "--system", SWITCHED_SYSTEMS + systems_of(TEMPERATURES_ON_DEMAND)
        ),


rule table_differences:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        comparisons=f"{RESULTS}/tables/comparisons/baseline.tsv",
        provenance=f"{RESULTS}/tables/provenance.json",
        modules=modules(
            "reporting/tables/differences.py",
            "reporting/tables/layout.py",
            "evaluation/summary.py",
            "config.py",
            "artefacts.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/differences", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/differences.html",
            caption="../report/differences.rst",
            category="Tables",
            labels={"table": "Differences to AASIST"},
        ),
    log:
        f"{RESULTS}/logs/table_differences.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_differences.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        systems=options("--system", RANKED),
        stem=output_stem,
        corpora=TITLED,
        label=LABEL,
        confidence=config["evaluation"]["confidence"],
    shell:
        "python -m spaarsist table differences --summary {input.summary:q} --comparisons {input.comparisons:q}"
        " {params.systems} {params.corpora} --output-stem {params.stem:q} --label={params.label:q}"
        " --confidence {params.confidence} --provenance {input.provenance:q} > {log} 2>&1"


rule table_ablation:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        comparisons=f"{RESULTS}/tables/comparisons/ablation.tsv",
        provenance=f"{RESULTS}/tables/provenance.json",
        modules=modules(
            "reporting/tables/differences.py",
            "reporting/tables/layout.py",
            "evaluation/summary.py",
            "config.py",
            "artefacts.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/ablation", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/ablation.html",
            caption="../report/ablation.rst",
            category="Tables",
            labels={"table": "Ablation"},
        ),
    log:
        f"{RESULTS}/logs/table_ablation.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_ablation.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        steps=json.dumps(ABLATION),
        stem=output_stem,
        corpora=TITLED,
        label=LABEL,
    shell:
        "python -m spaarsist table ablation --summary {input.summary:q} --comparisons {input.comparisons:q}"
        " --steps {params.steps:q} {params.corpora} --output-stem {params.stem:q} --label={params.label:q}"
        " --provenance {input.provenance:q} > {log} 2>&1"


use rule table_ablation as table_ablation_trained with:
    input:
        summary=f"{RESULTS}/tables/summary_with_trained_variants.tsv",
        comparisons=f"{RESULTS}/tables/comparisons/ablation_trained.tsv",
        provenance=f"{RESULTS}/tables/provenance_with_trained_variants.json",
        modules=modules(
            "reporting/tables/differences.py",
            "reporting/tables/layout.py",
            "evaluation/summary.py",
            "config.py",
            "artefacts.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/ablation_trained", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/ablation_trained.html",
            caption="../report/ablation.rst",
            category="Tables",
            labels={"table": "Ablation, trained too"},
        ),
    log:
        f"{RESULTS}/logs/table_ablation_trained.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_ablation_trained.tsv"
    params:
        steps=json.dumps(ABLATION_TRAINED),


rule table_nodes:
    input:
        inspected=INSPECTED,
        provenance=f"{RESULTS}/tables/provenance.json",
        modules=modules(
            "reporting/tables/nodes.py", "reporting/tables/layout.py", "artefacts.py"
        ),
    output:
        multiext(f"{RESULTS}/tables/nodes", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/nodes.html",
            caption="../report/nodes.rst",
            category="Tables",
            labels={"table": "Which nodes survive"},
        ),
    log:
        f"{RESULTS}/logs/table_nodes.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_nodes.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        table="nodes",
        inspected=options("--inspected", INSPECTED),
        stem=output_stem,
        corpora=TITLED,
        label=LABEL,
    shell:
        "python -m spaarsist table {params.table} {params.inspected} {params.corpora} --output-stem {params.stem:q}"
        " --label={params.label:q} --provenance {input.provenance:q} > {log} 2>&1"


use rule table_nodes as table_stack_attention with:
    output:
        multiext(f"{RESULTS}/tables/stack_attention", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/stack_attention.html",
            caption="../report/stack_attention.rst",
            category="Tables",
            labels={"table": "Is stack attention a mean?"},
        ),
    log:
        f"{RESULTS}/logs/table_stack_attention.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_stack_attention.tsv"
    params:
        table="stack-attention",


rule table_calibration:
    input:
        calibration=CALIBRATION,
        provenance=f"{RESULTS}/tables/provenance.json",
        modules=modules(
            "reporting/tables/calibration.py",
            "reporting/tables/layout.py",
            "artefacts.py",
            "evaluation/calibration.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/calibration", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/calibration.html",
            caption="../report/calibration.rst",
            category="Tables",
            labels={"table": "Calibration and threshold transfer"},
        ),
    log:
        f"{RESULTS}/logs/table_calibration.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_calibration.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        calibration=options("--calibration", CALIBRATION),
        systems=options("--system", RANKED),
        stem=output_stem,
        corpora=TITLED,
        label=LABEL,
    shell:
        "python -m spaarsist table calibration {params.calibration} {params.systems} {params.corpora}"
        " --output-stem {params.stem:q} --label={params.label:q} --provenance {input.provenance:q} > {log} 2>&1"


rule table_latency:
    input:
        measured=f"{RESULTS}/speed/backend.tsv",
        modules=modules(
            "reporting/tables/latency.py",
            "reporting/tables/layout.py",
            "config.py",
            "artefacts.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/latency", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/latency.html",
            caption="../report/latency.rst",
            category="Tables",
            labels={"table": "Time of the back-end"},
        ),
    log:
        f"{RESULTS}/logs/table_latency.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_latency.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        verb="table latency --backend",
        stem=output_stem,
    shell:
        "python -m spaarsist {params.verb} {input.measured:q} --output-stem {params.stem:q} > {log} 2>&1"


use rule table_latency as table_detector with:
    input:
        measured=f"{RESULTS}/speed/detector.tsv",
        modules=modules(
            "reporting/tables/latency.py",
            "reporting/tables/layout.py",
            "config.py",
            "artefacts.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/detector", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/detector.html",
            caption="../report/detector.rst",
            category="Tables",
            labels={"table": "Time of the whole detector"},
        ),
    log:
        f"{RESULTS}/logs/table_detector.log",
    benchmark:
        f"{RESULTS}/benchmarks/table_detector.tsv"
    params:
        verb="table detector --detector",


rule claims:
    input:
        claims=f"{workflow.basedir}/paper/claims.csv",
        summary=f"{RESULTS}/tables/summary.tsv",
        findings=f"{RESULTS}/tables/findings.tsv",
        composite=f"{RESULTS}/tables/composite.tsv",
        comparisons=[
            f"{RESULTS}/tables/comparisons/{family}.tsv"
            for family in ["baseline"] + ["temperature"] * SWITCHES
        ],
        provenance=f"{RESULTS}/tables/provenance.json",
        modules=modules(
            "reporting/claims.py",
            "reporting/tables/layout.py",
            "evaluation/summary.py",
            "config.py",
            "artefacts.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/tables/claims", ".tsv", ".md", ".tex"),
        html=report(
            f"{RESULTS}/tables/claims.html",
            caption="../report/claims.rst",
            category="Tables",
            labels={"table": "Claims against results"},
        ),
    log:
        f"{RESULTS}/logs/claims.log",
    benchmark:
        f"{RESULTS}/benchmarks/claims.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        comparisons=comparisons_options,
        stem=output_stem,
        corpora=TITLED,
        paper_corpora="" if config["label"] else "--paper-corpora",
        label=LABEL,
    shell:
        "python -m spaarsist judge --claims {input.claims:q} --summary {input.summary:q} --findings {input.findings:q}"
        " --composite {input.composite:q} {params.comparisons} {params.corpora} {params.paper_corpora}"
        " --output-stem {params.stem:q} --label={params.label:q} --provenance {input.provenance:q} > {log} 2>&1"


use rule claims as claims_with_trained_temperatures with:
    input:
        claims=f"{workflow.basedir}/paper/claims.csv",
        summary=f"{RESULTS}/tables/summary_with_trained_temperatures.tsv",
        findings=f"{RESULTS}/tables/findings.tsv",
        composite=f"{RESULTS}/tables/composite.tsv",
        comparisons=[
            f"{RESULTS}/tables/comparisons/{family}.tsv"
            for family in ["baseline"]
            + ["temperature"] * SWITCHES
            + ["temperature_trained"]
        ],
        provenance=f"{RESULTS}/tables/provenance_with_trained_temperatures.json",
        modules=modules(
            "reporting/claims.py",
            "reporting/tables/layout.py",
            "evaluation/summary.py",
            "config.py",
            "artefacts.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(
            f"{RESULTS}/tables/claims_with_trained_temperatures", ".tsv", ".md", ".tex"
        ),
        html=report(
            f"{RESULTS}/tables/claims_with_trained_temperatures.html",
            caption="../report/claims.rst",
            category="Tables",
            labels={"table": "Claims, with trained temperatures"},
        ),
    log:
        f"{RESULTS}/logs/claims_with_trained_temperatures.log",
    benchmark:
        f"{RESULTS}/benchmarks/claims_with_trained_temperatures.tsv"


rule figure_det:
    input:
        scores=scores_of(DRAWN),
        trials=TRIALS,
        modules=modules(
            "reporting/figures/scores.py",
            "evaluation/metrics.py",
            "reporting/figures/style.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/det", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/det.png",
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
        figure="det",
        given=f"{FROM_SCORES} {IN_FIGURES} {TITLED}",
        stem=output_stem,
        label=LABEL,
    shell:
        "python -m spaarsist figure {params.figure} {params.given} --output-stem {params.stem:q}"
        " --label={params.label:q} > {log} 2>&1"


use rule figure_det as figure_histograms with:
    input:
        scores=scores_of(DRAWN),
        trials=TRIALS,
        modules=modules(
            "reporting/figures/scores.py",
            "evaluation/metrics.py",
            "reporting/figures/style.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/histograms", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/histograms.png",
            caption="../report/histograms.rst",
            category="Figures",
            labels={"figure": "Score histograms"},
        ),
    log:
        f"{RESULTS}/logs/figure_histograms.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_histograms.tsv"
    params:
        figure=f"histograms --cost-model {shlex.quote(json.dumps(config['evaluation']['cost_model']))}",
        given=f"{FROM_SCORES} {IN_FIGURES} {TITLED}",


use rule figure_det as figure_reliability with:
    input:
        scores=scores_of(DRAWN),
        trials=TRIALS,
        modules=modules(
            "reporting/figures/scores.py",
            "evaluation/metrics.py",
            "reporting/figures/style.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/reliability", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/reliability.png",
            caption="../report/reliability.rst",
            category="Figures",
            labels={"figure": "Reliability diagrams"},
        ),
    log:
        f"{RESULTS}/logs/figure_reliability.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_reliability.tsv"
    params:
        figure="reliability",
        given=f"{FROM_SCORES} {IN_FIGURES} {TITLED}",


use rule figure_det as figure_training with:
    input:
        records=RECORDS,
        modules=modules("reporting/figures/training.py", "reporting/figures/style.py"),
    output:
        multiext(f"{RESULTS}/figures/training", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/training.png",
            caption="../report/training.rst",
            category="Figures",
            labels={"figure": "Training curves"},
        ),
    log:
        f"{RESULTS}/logs/figure_training.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_training.tsv"
    params:
        figure="training",
        given=options("--record", RECORDS),


use rule figure_det as figure_eer_vs_macs with:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        modules=modules(
            "reporting/figures/systems.py",
            "reporting/figures/style.py",
            "evaluation/summary.py",
            "config.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/eer_vs_macs", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/eer_vs_macs.png",
            caption="../report/eer_vs_macs.rst",
            category="Figures",
            labels={"figure": "EER against MACs"},
        ),
    log:
        f"{RESULTS}/logs/figure_eer_vs_macs.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_eer_vs_macs.tsv"
    params:
        figure="eer-vs-cost --cost n_macs",
        given=f"{FROM_SUMMARY} {options('--system', RANKED)} {TITLED}",


use rule figure_det as figure_eer_vs_latency with:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        modules=modules(
            "reporting/figures/systems.py",
            "reporting/figures/style.py",
            "evaluation/summary.py",
            "config.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/eer_vs_latency", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/eer_vs_latency.png",
            caption="../report/eer_vs_latency.rst",
            category="Figures",
            labels={"figure": "EER against latency"},
        ),
    log:
        f"{RESULTS}/logs/figure_eer_vs_latency.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_eer_vs_latency.tsv"
    params:
        figure="eer-vs-cost --cost latency_ms",
        given=f"{FROM_SUMMARY} {options('--system', RANKED)} {TITLED}",


use rule figure_det as figure_k_sweep with:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        comparisons=f"{RESULTS}/tables/comparisons/k_sweep.tsv",
        modules=modules(
            "reporting/figures/systems.py",
            "reporting/figures/style.py",
            "evaluation/summary.py",
            "config.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/k_sweep", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/k_sweep.png",
            caption="../report/k_sweep.rst",
            category="Figures",
            labels={"figure": "k at inference as a dial"},
        ),
    log:
        f"{RESULTS}/logs/figure_k_sweep.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_k_sweep.tsv"
    params:
        figure="k-sweep",
        given=f"{FROM_SUMMARY} --comparisons {RESULTS}/tables/comparisons/k_sweep.tsv"
        f" {options('--variant', config['systems']['variants'])} {TITLED}",


use rule figure_det as figure_attacks with:
    input:
        metrics=metrics_of(DRAWN),
        modules=modules(
            "reporting/figures/systems.py",
            "reporting/figures/style.py",
            "evaluation/summary.py",
            "config.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/attacks", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/attacks.png",
            caption="../report/attacks.rst",
            category="Figures",
            labels={"figure": "EER by attack"},
        ),
    log:
        f"{RESULTS}/logs/figure_attacks.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_attacks.tsv"
    params:
        figure="attacks",
        given=f"{options('--metrics', metrics_of(DRAWN))} {IN_FIGURES} {TITLED}",


use rule figure_det as figure_temperature with:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        modules=modules(
            "reporting/figures/systems.py",
            "reporting/figures/style.py",
            "evaluation/summary.py",
            "config.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/temperature", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/temperature.png",
            caption="../report/temperature.rst",
            category="Figures",
            labels={"figure": "Softmax temperatures"},
        ),
    log:
        f"{RESULTS}/logs/figure_temperature.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_temperature.tsv"
    params:
        figure=f"temperature --graph {AS_TRAINED['graph']} --stack {AS_TRAINED['stack']}",
        given=f"{FROM_SUMMARY} {TITLED}",


use rule figure_det as figure_composite with:
    input:
        composite=f"{RESULTS}/tables/composite.tsv",
        sensitivity=f"{RESULTS}/tables/composite_sensitivity.tsv",
        modules=modules("reporting/figures/composite.py", "reporting/figures/style.py"),
    output:
        multiext(f"{RESULTS}/figures/composite", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/composite.png",
            caption="../report/composite.rst",
            category="Figures",
            labels={"figure": "Composite score"},
        ),
    log:
        f"{RESULTS}/logs/figure_composite.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_composite.tsv"
    params:
        figure="composite",
        given=f"--composite {RESULTS}/tables/composite.tsv --sensitivity {RESULTS}/tables/composite_sensitivity.tsv",


use rule figure_det as figure_macs_by_module with:
    input:
        breakdown=f"{RESULTS}/complexity/paper_size_breakdown.tsv",
        modules=modules("reporting/figures/compute.py", "reporting/figures/style.py"),
    output:
        multiext(f"{RESULTS}/figures/macs_by_module", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/macs_by_module.png",
            caption="../report/macs_by_module.rst",
            category="Figures",
            labels={"figure": "MACs by module"},
        ),
    log:
        f"{RESULTS}/logs/figure_macs_by_module.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_macs_by_module.tsv"
    params:
        figure="macs-by-module",
        given=f"--breakdown {RESULTS}/complexity/paper_size_breakdown.tsv {options('--system', dict.fromkeys(DISSECTED))}",


use rule figure_temperature as figure_temperature_trained with:
    input:
        summary=f"{RESULTS}/tables/summary_with_trained_temperatures.tsv",
        modules=modules(
            "reporting/figures/systems.py",
            "reporting/figures/style.py",
            "evaluation/summary.py",
            "config.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/temperature_trained", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/temperature_trained.png",
            caption="../report/temperature.rst",
            category="Figures",
            labels={"figure": "Softmax temperatures, trained too"},
        ),
    log:
        f"{RESULTS}/logs/figure_temperature_trained.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_temperature_trained.tsv"
    params:
        given=f"--summary {RESULTS}/tables/summary_with_trained_temperatures.tsv {TITLED}",


use rule figure_det as figure_differences with:
    input:
        comparisons=f"{RESULTS}/tables/comparisons/baseline.tsv",
        modules=modules(
            "reporting/figures/differences.py",
            "reporting/figures/style.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/differences", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/differences.png",
            caption="../report/differences.rst",
            category="Figures",
            labels={"figure": "Differences to AASIST"},
        ),
    log:
        f"{RESULTS}/logs/figure_differences.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_differences.tsv"
    params:
        figure="differences",
        given=f"--comparisons {RESULTS}/tables/comparisons/baseline.tsv {options('--system', FAMILY_SYSTEMS)} {TITLED}",


use rule figure_det as figure_ablation with:
    input:
        comparisons=f"{RESULTS}/tables/comparisons/ablation.tsv",
        modules=modules(
            "reporting/figures/differences.py",
            "reporting/figures/style.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/ablation", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/ablation.png",
            caption="../report/ablation.rst",
            category="Figures",
            labels={"figure": "Ablation"},
        ),
    log:
        f"{RESULTS}/logs/figure_ablation.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_ablation.tsv"
    params:
        figure="ablation",
        given=f"--comparisons {RESULTS}/tables/comparisons/ablation.tsv --steps {shlex.quote(json.dumps(ABLATION))} {TITLED}",


use rule figure_det as figure_ablation_trained with:
    input:
        comparisons=f"{RESULTS}/tables/comparisons/ablation_trained.tsv",
        modules=modules(
            "reporting/figures/differences.py",
            "reporting/figures/style.py",
            "reporting/tables/differences.py",
            "evaluation/comparison.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/ablation_trained", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/ablation_trained.png",
            caption="../report/ablation.rst",
            category="Figures",
            labels={"figure": "Ablation, trained too"},
        ),
    log:
        f"{RESULTS}/logs/figure_ablation_trained.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_ablation_trained.tsv"
    params:
        figure="ablation",
        given=f"--comparisons {RESULTS}/tables/comparisons/ablation_trained.tsv --steps {shlex.quote(json.dumps(ABLATION_TRAINED))} {TITLED}",


use rule figure_det as figure_node_overlap with:
    input:
        inspected=INSPECTED,
        modules=modules(
            "reporting/figures/nodes.py",
            "reporting/tables/nodes.py",
            "reporting/figures/style.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/node_overlap", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/node_overlap.png",
            caption="../report/node_overlap.rst",
            category="Figures",
            labels={"figure": "Which nodes survive"},
        ),
    log:
        f"{RESULTS}/logs/figure_node_overlap.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_node_overlap.tsv"
    params:
        figure="node-overlap",
        given=f"{options('--inspected', INSPECTED)} {TITLED}",


use rule figure_det as figure_kept_nodes with:
    input:
        inspected=INSPECTED,
        modules=modules(
            "reporting/figures/nodes.py",
            "reporting/tables/nodes.py",
            "reporting/figures/style.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/kept_nodes", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/kept_nodes.png",
            caption="../report/kept_nodes.rst",
            category="Figures",
            labels={"figure": "Where the kept nodes are"},
        ),
    log:
        f"{RESULTS}/logs/figure_kept_nodes.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_kept_nodes.tsv"
    params:
        figure="kept-nodes",
        given=f"{options('--inspected', INSPECTED)} {TITLED}",


use rule figure_det as figure_stack_attention with:
    input:
        inspected=INSPECTED,
        modules=modules(
            "reporting/figures/nodes.py",
            "reporting/tables/nodes.py",
            "reporting/figures/style.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/stack_attention", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/stack_attention.png",
            caption="../report/stack_attention.rst",
            category="Figures",
            labels={"figure": "Is stack attention a mean?"},
        ),
    log:
        f"{RESULTS}/logs/figure_stack_attention.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_stack_attention.tsv"
    params:
        figure="stack-attention",
        given=f"{options('--inspected', INSPECTED)} {TITLED}",


use rule figure_det as figure_calibration with:
    input:
        calibration=CALIBRATION,
        modules=modules(
            "reporting/figures/calibration.py",
            "reporting/figures/style.py",
            "evaluation/calibration.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/calibration", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/calibration.png",
            caption="../report/calibration.rst",
            category="Figures",
            labels={"figure": "Calibration and threshold transfer"},
        ),
    log:
        f"{RESULTS}/logs/figure_calibration.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_calibration.tsv"
    params:
        figure="calibration",
        given=f"{options('--calibration', CALIBRATION)} {IN_FIGURES} {DEV_TOO}",


use rule table_latency as figure_latency with:
    input:
        measured=f"{RESULTS}/speed/backend.tsv",
        modules=modules(
            "reporting/figures/latency.py",
            "reporting/figures/style.py",
            "reporting/tables/latency.py",
            "config.py",
            "artefacts.py",
        ),
    output:
        multiext(f"{RESULTS}/figures/latency", ".tsv", ".pdf"),
        png=report(
            f"{RESULTS}/figures/latency.png",
            caption="../report/latency.rst",
            category="Figures",
            labels={"figure": "Time of the back-end"},
        ),
    log:
        f"{RESULTS}/logs/figure_latency.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure_latency.tsv"
    params:
        verb="figure latency --backend",


rule paper:
    input:
        source=f"{workflow.basedir}/paper/main.tex",
        references=f"{workflow.basedir}/paper/references.bib",
        record=f"{RESULTS}/checkpoints/{runs(['AST-05'])[0]}/model.json",
        results=TABLES + FIGURES + SPEED + THERE,
        comparisons=COMPARISONS,
        calibration=CALIBRATION,
        inspected=INSPECTED,
        modules=modules(
            "reporting/report.py",
            "reporting/claims.py",
            "reporting/tables/latency.py",
            "reporting/tables/layout.py",
            "evaluation/comparison.py",
            "evaluation/summary.py",
        ),
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        results=results_folder,
        comparisons=comparisons_options,
        calibration=options("--calibration", CALIBRATION),
        inspected=options("--inspected", INSPECTED),
        bootstrap=config["evaluation"]["bootstrap"],
        confidence=config["evaluation"]["confidence"],
        corpora=TITLED,
        label=LABEL,
    shell:
        "python -m spaarsist report --source {input.source:q} --results {params.results:q}"
        " --summary {params.results}/tables/summary.tsv --composite {params.results}/tables/composite.tsv"
        " --findings {params.results}/tables/findings.tsv --ledger {params.results}/tables/claims.tsv --record {input.record:q}"
        " {params.comparisons} {params.calibration} {params.inspected} --bootstrap {params.bootstrap}"
        " --latency {params.results}/complexity/latency.tsv --speed {params.results}/speed"
        " --confidence {params.confidence} {params.corpora} --label={params.label:q} --output {output.pdf:q} > {log} 2>&1"


rule publish:
    input:
        files=PUBLISHED,
        scores=PUBLISHED_SCORES,
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
        files=options("--file", PUBLISHED),
        scores=options("--scores", PUBLISHED_SCORES),
        results=results_folder,
    shell:
        "python -m spaarsist publish {params.files} {params.scores} --results {params.results:q} --output {output:q} > {log} 2>&1"
