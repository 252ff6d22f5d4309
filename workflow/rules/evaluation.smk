# What the runs are worth. Someone with score files alone can start here.


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
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        cost=json.dumps(config["evaluation"]["cost_model"], sort_keys=True),
        bootstrap=config["evaluation"]["bootstrap"],
        confidence=config["evaluation"]["confidence"],
    shell:
        "python -m spaarsist metrics --scores {input.scores:q} --trial-list {input.trials:q} --output {output:q}"
        " --cost-model {params.cost:q} --bootstrap {params.bootstrap} --confidence {params.confidence} > {log} 2>&1"


rule complexity_at_paper_size:
    input:
        modules=modules("evaluation/complexity.py", "models/backend.py"),
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
        systems=system_options(),
        size=config["complexity"],
    shell:
        "python -m spaarsist complexity --output {output.counts:q} --breakdown {output.breakdown:q} {params.systems}"
        " --feature-dim {params.size[feature_dim]} --embedding-dim {params.size[embedding_dim]}"
        " --n-frames {params.size[n_frames]} > {log} 2>&1"


rule complexity_as_run:
    input:
        record=f"{RESULTS}/checkpoints/{RUNS[0]}/model.json",
        modules=modules("evaluation/complexity.py", "models/backend.py"),
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
        systems=system_options(),
        folder=subpath(input.record, parent=True),
    shell:
        "python -m spaarsist complexity --output {output.counts:q} --breakdown {output.breakdown:q} {params.systems}"
        " --checkpoint {params.folder:q} > {log} 2>&1"
