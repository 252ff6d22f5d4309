# What the runs are worth. Someone with score files alone can start here.


# Seconds each: on a cluster they run beside Snakemake itself.
localrules:
    complexity_at_paper_size,
    complexity_as_run,
    summary,
    summary_with_trained_temperatures,
    composite,


rule metrics:
    input:
        scores=f"{RESULTS}/scores/{{run}}/{{corpus}}.parquet",
        trials=f"{RESULTS}/trials/{{corpus}}.tsv",
        modules=modules("evaluation/metrics.py", "evaluation/statistics.py"),
    output:
        f"{RESULTS}/metrics/{{run}}/{{corpus}}.tsv",
    log:
        f"{RESULTS}/logs/metrics/{{run}}/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/metrics/{{run}}/{{corpus}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    # ASVspoof 5 with 60 score columns (there are 45 at most): 2 GB; 6.5 s a resample on one core, so two hours for 1,000
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        cost=json.dumps(config["evaluation"]["cost_model"], sort_keys=True),
        bootstrap=config["evaluation"]["bootstrap"],
        confidence=config["evaluation"]["confidence"],
    shell:
        "python -m spaarsist metrics --scores {input.scores:q} --trial-list {input.trials:q} --output {output:q}"
        " --cost-model {params.cost:q} --bootstrap {params.bootstrap} --confidence {params.confidence} > {log} 2>&1"


rule complexity_at_paper_size:
    input:
        modules=modules(
            "evaluation/complexity.py", "models/backend.py", "models/pooling.py"
        ),
    output:
        counts=f"{RESULTS}/complexity/paper_size.tsv",
        breakdown=f"{RESULTS}/complexity/paper_size_breakdown.tsv",
    log:
        f"{RESULTS}/logs/complexity_at_paper_size.log",
    benchmark:
        f"{RESULTS}/benchmarks/complexity_at_paper_size.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        systems=options("--system", SYSTEMS + systems_of(ON_DEMAND)),
        backends=json.dumps(config["backends"], sort_keys=True),
        size=config["complexity"],
    shell:
        "python -m spaarsist complexity --output {output.counts:q} --breakdown {output.breakdown:q} {params.systems}"
        " --backends {params.backends:q} --feature-dim {params.size[feature_dim]} --n-layers {params.size[n_layers]}"
        " --embedding-dim {params.size[embedding_dim]} --n-frames {params.size[n_frames]} > {log} 2>&1"


rule complexity_as_run:
    input:
        record=RECORDS[0],
        modules=modules(
            "evaluation/complexity.py", "models/backend.py", "models/pooling.py"
        ),
    output:
        counts=f"{RESULTS}/complexity/as_run.tsv",
        breakdown=f"{RESULTS}/complexity/as_run_breakdown.tsv",
    log:
        f"{RESULTS}/logs/complexity_as_run.log",
    benchmark:
        f"{RESULTS}/benchmarks/complexity_as_run.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        systems=options("--system", RANKED),
        backends=json.dumps(config["backends"], sort_keys=True),
        folder=subpath(input.record, parent=True),
    shell:
        "python -m spaarsist complexity --output {output.counts:q} --breakdown {output.breakdown:q} {params.systems}"
        " --backends {params.backends:q} --checkpoint {params.folder:q} > {log} 2>&1"


rule latency:
    input:
        modules=modules(
            "evaluation/complexity.py", "models/backend.py", "models/pooling.py"
        ),
    output:
        f"{RESULTS}/complexity/latency.tsv",
    log:
        f"{RESULTS}/logs/latency.log",
    benchmark:
        f"{RESULTS}/benchmarks/latency.tsv"
    conda:
        ENVIRONMENT
    # Takes every core of this machine, so that nothing runs beside what is timed
    threads: workflow.resource_settings.cores or 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        systems=options("--system", RANKED),
        backends=json.dumps(config["backends"], sort_keys=True),
        size=config["complexity"],
        timed_threads=COMPUTE["score_threads"],
    shell:
        "python -m spaarsist latency --output {output:q} {params.systems} --backends {params.backends:q}"
        " --feature-dim {params.size[feature_dim]} --n-layers {params.size[n_layers]}"
        " --embedding-dim {params.size[embedding_dim]} --n-frames {params.size[n_frames]}"
        " --threads {params.timed_threads} > {log} 2>&1"


rule findings:
    input:
        records=RECORDS,
        weights=f"{RESULTS}/checkpoints/{runs(K_TRAIN)[0]}/model.safetensors",
        dev_list=f"{RESULTS}/trials/{config['select_on']}.tsv",
        modules=modules(
            "config.py",
            "data/archives.py",
            "data/audio.py",
            "data/augment.py",
            "data/protocol.py",
            "models/backend.py",
            "models/detector.py",
            "models/frontend.py",
            "evaluation/complexity.py",
            "evaluation/findings.py",
            "evaluation/metrics.py",
        ),
    output:
        f"{RESULTS}/tables/findings.tsv",
    log:
        f"{RESULTS}/logs/findings.log",
    benchmark:
        f"{RESULTS}/benchmarks/findings.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        records=options("--record", RECORDS),
        checkpoint=subpath(input.weights, parent=True),
    shell:
        "python -m spaarsist findings --output {output:q} {params.records} --checkpoint {params.checkpoint:q}"
        " --dev-list {input.dev_list:q} > {log} 2>&1"


rule summary:
    input:
        metrics=METRICS,
        complexity=f"{RESULTS}/complexity/paper_size.tsv",
        latency=f"{RESULTS}/complexity/latency.tsv",
        as_run=f"{RESULTS}/complexity/as_run.tsv",
        scores=SCORES,
        modules=modules("evaluation/summary.py", "config.py"),
    output:
        f"{RESULTS}/tables/summary.tsv",
    log:
        f"{RESULTS}/logs/summary.log",
    benchmark:
        f"{RESULTS}/benchmarks/summary.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        metrics=options("--metrics", METRICS),
        scores=options("--scores", SCORES),
    shell:
        "python -m spaarsist summary {params.metrics} --complexity {input.complexity:q} --latency {input.latency:q}"
        " --as-run {input.as_run:q} {params.scores} --output {output:q} > {log} 2>&1"


use rule summary as summary_with_trained_temperatures with:
    input:
        metrics=METRICS + metrics_of(ON_DEMAND),
        complexity=f"{RESULTS}/complexity/paper_size.tsv",
        latency=f"{RESULTS}/complexity/latency.tsv",
        as_run=f"{RESULTS}/complexity/as_run.tsv",
        scores=SCORES + scores_of(ON_DEMAND),
        modules=modules("evaluation/summary.py", "config.py"),
    output:
        f"{RESULTS}/tables/summary_with_trained_temperatures.tsv",
    log:
        f"{RESULTS}/logs/summary_with_trained_temperatures.log",
    benchmark:
        f"{RESULTS}/benchmarks/summary_with_trained_temperatures.tsv"
    params:
        metrics=options("--metrics", METRICS + metrics_of(ON_DEMAND)),
        scores=options("--scores", SCORES + scores_of(ON_DEMAND)),


rule composite:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        modules=modules("evaluation/selection.py", "evaluation/summary.py", "config.py"),
    output:
        composite=f"{RESULTS}/tables/composite.tsv",
        sensitivity=f"{RESULTS}/tables/composite_sensitivity.tsv",
    log:
        f"{RESULTS}/logs/composite.log",
    benchmark:
        f"{RESULTS}/benchmarks/composite.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        corpora=corpora(titled=False),
        systems=options("--system", RANKED),
        weights=json.dumps(config["evaluation"]["composite"], sort_keys=True),
    shell:
        "python -m spaarsist composite --summary {input.summary:q} {params.corpora} {params.systems}"
        " --weights {params.weights:q} --output {output.composite:q} --sensitivity {output.sensitivity:q} > {log} 2>&1"
