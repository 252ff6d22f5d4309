# What the runs are worth. Someone with score files alone can start here.


# Seconds each: on a cluster they run beside Snakemake itself.
localrules:
    complexity_at_paper_size,
    complexity_as_run,
    provenance,
    provenance_with_trained_temperatures,
    provenance_with_trained_variants,
    summary,
    summary_with_trained_temperatures,
    summary_with_trained_variants,
    comparisons,
    composite,


rule metrics:
    input:
        scores=f"{RESULTS}/scores/{{run}}/{{corpus}}.parquet",
        trials=f"{RESULTS}/trials/{{corpus}}.tsv",
        modules=modules(
            "evaluation/evaluate.py",
            "evaluation/metrics.py",
            "evaluation/statistics.py",
        ),
    output:
        metrics=f"{RESULTS}/metrics/{{run}}/{{corpus}}.tsv",
        replicates=f"{RESULTS}/replicates/{{run}}/{{corpus}}.parquet",
    log:
        f"{RESULTS}/logs/metrics/{{run}}/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/metrics/{{run}}/{{corpus}}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["score_threads"]
    # ASVspoof 5 with 60 score columns: 1.6 GB, and 0.4 s a resample on two cores
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        cost=json.dumps(config["evaluation"]["cost_model"], sort_keys=True),
        bootstrap=config["evaluation"]["bootstrap"],
        confidence=config["evaluation"]["confidence"],
    shell:
        "python -m spaarsist metrics --scores {input.scores:q} --trial-list {input.trials:q} --output {output.metrics:q}"
        " --replicates {output.replicates:q} --cost-model {params.cost:q} --bootstrap {params.bootstrap}"
        " --confidence {params.confidence} --threads {threads} > {log} 2>&1"


rule calibrate:
    input:
        dev_scores=f"{RESULTS}/scores/{{run}}/{config['select_on']}.parquet",
        dev_list=f"{RESULTS}/trials/{config['select_on']}.tsv",
        scores=expand(
            f"{RESULTS}/scores/{{{{run}}}}/{{corpus}}.parquet",
            corpus=config["evaluate_on"],
        ),
        trials=TRIALS,
        modules=modules(
            "config.py",
            "data/protocol.py",
            "evaluation/calibration.py",
            "evaluation/evaluate.py",
            "evaluation/metrics.py",
        ),
    output:
        f"{RESULTS}/calibration/{{run}}.tsv",
    log:
        f"{RESULTS}/logs/calibrate/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/calibrate/{{run}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        scores=scores_options,
        trials=trial_lists(),
        cost=json.dumps(config["evaluation"]["cost_model"], sort_keys=True),
    shell:
        "python -m spaarsist calibrate --dev-scores {input.dev_scores:q} --dev-list {input.dev_list:q} {params.scores}"
        " {params.trials} --cost-model {params.cost:q} --output {output:q} > {log} 2>&1"


rule inspect:
    input:
        weights=f"{RESULTS}/checkpoints/{{run}}/model.safetensors",
        record=f"{RESULTS}/checkpoints/{{run}}/model.json",
        trials=f"{RESULTS}/trials/{{corpus}}.tsv",
        scores=f"{RESULTS}/scores/{{run}}/{{corpus}}.parquet",
        modules=modules(
            "config.py",
            "data/protocol.py",
            "experiments/excerpts.py",
            "models/backend.py",
            "models/detector.py",
            "models/frontend.py",
            "audit/nodes.py",
            "evaluation/evaluate.py",
        ),
    output:
        directory(f"{RESULTS}/analysis/{{run}}/{{corpus}}"),
    log:
        f"{RESULTS}/logs/inspect/{{run}}/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/inspect/{{run}}/{{corpus}}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["score_threads"] + COMPUTE["workers"]
    resources:
        mem_mb=8000 + 8000 * min(COMPUTE["gpu"], 1),
        runtime=240,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        folder=subpath(input.weights, parent=True),
        k_infer=options("--k-infer", config["analysis"]["k_infer"]),
        temperatures=options(
            "--stack-temperature", config["analysis"]["stack_temperature"]
        ),
        trials_per_class=config["analysis"]["trials_per_class"],
        batch_size=COMPUTE["batch_size"],
        device=COMPUTE["device"],
        torch_threads=COMPUTE["score_threads"],
        workers=COMPUTE["workers"],
    shell:
        "python -m spaarsist inspect --checkpoint {params.folder:q} --trial-list {input.trials:q} --scores {input.scores:q}"
        " --corpus {wildcards.corpus} --output {output:q} {params.k_infer} {params.temperatures}"
        " --trials-per-class {params.trials_per_class} --batch-size {params.batch_size} --device {params.device}"
        " --threads {params.torch_threads} --workers {params.workers} > {log} 2>&1"


rule complexity_at_paper_size:
    input:
        modules=modules(
            "audit/complexity.py", "models/backend.py", "models/pooling.py"
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
            "audit/complexity.py", "models/backend.py", "models/pooling.py"
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
        systems=options("--system", SYSTEMS + systems_of(ON_DEMAND)),
        backends=json.dumps(config["backends"], sort_keys=True),
        folder=subpath(input.record, parent=True),
    shell:
        "python -m spaarsist complexity --output {output.counts:q} --breakdown {output.breakdown:q} {params.systems}"
        " --backends {params.backends:q} --checkpoint {params.folder:q} > {log} 2>&1"


rule latency:
    input:
        modules=modules(
            "audit/complexity.py", "models/backend.py", "models/pooling.py"
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
        systems=options("--system", SYSTEMS + systems_of(ON_DEMAND)),
        backends=json.dumps(config["backends"], sort_keys=True),
        size=config["complexity"],
        timed_threads=COMPUTE["score_threads"],
    shell:
        "python -m spaarsist latency --output {output:q} {params.systems} --backends {params.backends:q}"
        " --feature-dim {params.size[feature_dim]} --n-layers {params.size[n_layers]}"
        " --embedding-dim {params.size[embedding_dim]} --n-frames {params.size[n_frames]}"
        " --threads {params.timed_threads} > {log} 2>&1"


rule speed_backend:
    input:
        reference=f"{workflow.basedir}/tests/reference/aasist.py",
        modules=modules(
            "config.py",
            "models/backend.py",
            "deployment/optimise.py",
            "audit/speed.py",
            "deployment/export.py",
        ),
    output:
        f"{RESULTS}/speed/backend.tsv",
    log:
        f"{RESULTS}/logs/speed_backend.log",
    benchmark:
        f"{RESULTS}/benchmarks/speed_backend.tsv"
    conda:
        ENVIRONMENT
    # As for latency
    threads: workflow.resource_settings.cores or 1
    resources:
        mem_mb=8000,
        runtime=120,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        systems=options("--system", config["speed"]["systems"]),
        batch_sizes=options("--batch-size", config["speed"]["batch_sizes"]),
        size=config["complexity"],
        device=COMPUTE["device"],
        timed=config["speed"],
    shell:
        "python -m spaarsist benchmark backend --output {output:q} --reference {input.reference:q} {params.systems}"
        " {params.batch_sizes} --feature-dim {params.size[feature_dim]} --embedding-dim {params.size[embedding_dim]}"
        " --n-frames {params.size[n_frames]}"
        " --device {params.device} --threads {params.timed[threads]} --rounds {params.timed[rounds]} > {log} 2>&1"


rule speed_training:
    input:
        reference=f"{workflow.basedir}/tests/reference/aasist.py",
        modules=modules(
            "config.py",
            "models/backend.py",
            "deployment/optimise.py",
            "audit/speed.py",
            "experiments/train.py",
        ),
    output:
        f"{RESULTS}/speed/training.tsv",
    log:
        f"{RESULTS}/logs/speed_training.log",
    benchmark:
        f"{RESULTS}/benchmarks/speed_training.tsv"
    conda:
        ENVIRONMENT
    # As for latency
    threads: workflow.resource_settings.cores or 1
    resources:
        mem_mb=16000,
        runtime=120,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        size=config["complexity"],
        device=COMPUTE["device"],
        timed=config["speed"],
    shell:
        "python -m spaarsist benchmark training --output {output:q} --reference {input.reference:q}"
        " --feature-dim {params.size[feature_dim]} --embedding-dim {params.size[embedding_dim]}"
        " --n-frames {params.size[n_frames]}"
        " --device {params.device} --threads {params.timed[threads]} > {log} 2>&1"


rule speed_detector:
    input:
        modules=modules(
            "config.py",
            "models/backend.py",
            "deployment/optimise.py",
            "audit/speed.py",
            "models/frontend.py",
            "models/detector.py",
        ),
    output:
        f"{RESULTS}/speed/detector.tsv",
    log:
        f"{RESULTS}/logs/speed_detector.log",
    benchmark:
        f"{RESULTS}/benchmarks/speed_detector.tsv"
    conda:
        ENVIRONMENT
    # As for latency
    threads: workflow.resource_settings.cores or 1
    resources:
        mem_mb=16000,
        runtime=120,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        systems=options("--system", config["speed"]["systems"]),
        variants=options("--variant", scored_together(config["speed"]["systems"][0])),
        size=config["complexity"],
        device=COMPUTE["device"],
        timed=config["speed"],
    shell:
        "python -m spaarsist benchmark detector --output {output:q} {params.systems} {params.variants}"
        " --embedding-dim {params.size[embedding_dim]}"
        " --device {params.device} --threads {params.timed[threads]} > {log} 2>&1"


rule speed_scoring:
    input:
        weights=f"{RESULTS}/checkpoints/{runs(K_TRAIN)[0]}/model.safetensors",
        trials=f"{RESULTS}/trials/{config['evaluate_on'][0]}.tsv",
        modules=modules(
            "models/backend.py",
            "models/detector.py",
            "experiments/score.py",
            "audit/speed.py",
        ),
    output:
        f"{RESULTS}/speed/scoring.tsv",
    log:
        f"{RESULTS}/logs/speed_scoring.log",
    benchmark:
        f"{RESULTS}/benchmarks/speed_scoring.tsv"
    conda:
        ENVIRONMENT
    # As for latency
    threads: workflow.resource_settings.cores or 1
    resources:
        mem_mb=8000,
        runtime=120,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        checkpoint=subpath(input.weights, parent=True),
        systems=options("--system", TABLE_1),
        device=COMPUTE["device"],
        timed=config["speed"],
    shell:
        "python -m spaarsist benchmark scoring --output {output:q} --checkpoint {params.checkpoint:q}"
        " --trial-list {input.trials:q} {params.systems}"
        " --device {params.device} --threads {params.timed[threads]} > {log} 2>&1"


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
            "experiments/excerpts.py",
            "experiments/features.py",
            "experiments/score.py",
            "experiments/train.py",
            "models/backend.py",
            "models/detector.py",
            "models/frontend.py",
            "audit/complexity.py",
            "audit/findings.py",
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


rule provenance:
    input:
        SCORES,
    output:
        f"{RESULTS}/tables/provenance.json",
    log:
        f"{RESULTS}/logs/provenance.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        scores=options("--scores", SCORES),
        config_hash=CONFIG_HASH,
    shell:
        "python -m spaarsist provenance {params.scores} --config-hash {params.config_hash} --output {output:q} > {log} 2>&1"


use rule provenance as provenance_with_trained_temperatures with:
    input:
        SCORES + scores_of(TEMPERATURES_ON_DEMAND),
    output:
        f"{RESULTS}/tables/provenance_with_trained_temperatures.json",
    log:
        f"{RESULTS}/logs/provenance_with_trained_temperatures.log",
    params:
        scores=options("--scores", SCORES + scores_of(TEMPERATURES_ON_DEMAND)),
        config_hash=CONFIG_HASH,


use rule provenance as provenance_with_trained_variants with:
    input:
        SCORES + scores_of(VARIANTS_ON_DEMAND),
    output:
        f"{RESULTS}/tables/provenance_with_trained_variants.json",
    log:
        f"{RESULTS}/logs/provenance_with_trained_variants.log",
    params:
        scores=options("--scores", SCORES + scores_of(VARIANTS_ON_DEMAND)),
        config_hash=CONFIG_HASH,


rule summary:
    input:
        metrics=METRICS,
        replicates=REPLICATES,
        complexity=f"{RESULTS}/complexity/paper_size.tsv",
        latency=f"{RESULTS}/complexity/latency.tsv",
        as_run=f"{RESULTS}/complexity/as_run.tsv",
        scores=SCORES,
        modules=modules(
            "evaluation/summary.py",
            "evaluation/evaluate.py",
            "evaluation/statistics.py",
            "config.py",
        ),
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
        replicates=options("--replicates", REPLICATES),
        scores=options("--scores", SCORES),
        confidence=config["evaluation"]["confidence"],
    shell:
        "python -m spaarsist summary {params.metrics} {params.replicates} --complexity {input.complexity:q}"
        " --latency {input.latency:q} --as-run {input.as_run:q} {params.scores} --confidence {params.confidence}"
        " --output {output:q} > {log} 2>&1"


use rule summary as summary_with_trained_temperatures with:
    input:
        metrics=METRICS + metrics_of(TEMPERATURES_ON_DEMAND),
        replicates=REPLICATES + replicates_of(TEMPERATURES_ON_DEMAND),
        complexity=f"{RESULTS}/complexity/paper_size.tsv",
        latency=f"{RESULTS}/complexity/latency.tsv",
        as_run=f"{RESULTS}/complexity/as_run.tsv",
        scores=SCORES + scores_of(TEMPERATURES_ON_DEMAND),
        modules=modules(
            "evaluation/summary.py",
            "evaluation/evaluate.py",
            "evaluation/statistics.py",
            "config.py",
        ),
    output:
        f"{RESULTS}/tables/summary_with_trained_temperatures.tsv",
    log:
        f"{RESULTS}/logs/summary_with_trained_temperatures.log",
    benchmark:
        f"{RESULTS}/benchmarks/summary_with_trained_temperatures.tsv"
    params:
        metrics=options("--metrics", METRICS + metrics_of(TEMPERATURES_ON_DEMAND)),
        replicates=options(
            "--replicates", REPLICATES + replicates_of(TEMPERATURES_ON_DEMAND)
        ),
        scores=options("--scores", SCORES + scores_of(TEMPERATURES_ON_DEMAND)),


use rule summary as summary_with_trained_variants with:
    input:
        metrics=METRICS + metrics_of(VARIANTS_ON_DEMAND),
        replicates=REPLICATES + replicates_of(VARIANTS_ON_DEMAND),
        complexity=f"{RESULTS}/complexity/paper_size.tsv",
        latency=f"{RESULTS}/complexity/latency.tsv",
        as_run=f"{RESULTS}/complexity/as_run.tsv",
        scores=SCORES + scores_of(VARIANTS_ON_DEMAND),
        modules=modules(
            "evaluation/summary.py",
            "evaluation/evaluate.py",
            "evaluation/statistics.py",
            "config.py",
        ),
    output:
        f"{RESULTS}/tables/summary_with_trained_variants.tsv",
    log:
        f"{RESULTS}/logs/summary_with_trained_variants.log",
    benchmark:
        f"{RESULTS}/benchmarks/summary_with_trained_variants.tsv"
    params:
        metrics=options("--metrics", METRICS + metrics_of(VARIANTS_ON_DEMAND)),
        replicates=options(
            "--replicates", REPLICATES + replicates_of(VARIANTS_ON_DEMAND)
        ),
        scores=options("--scores", SCORES + scores_of(VARIANTS_ON_DEMAND)),


rule comparisons:
    input:
        metrics=family_metrics,
        replicates=family_replicates,
        modules=modules(
            "evaluation/comparison.py",
            "evaluation/evaluate.py",
            "evaluation/statistics.py",
        ),
    output:
        f"{RESULTS}/tables/comparisons/{{family}}.tsv",
    log:
        f"{RESULTS}/logs/comparisons/{{family}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/comparisons/{{family}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        pairs=pair_options,
        metrics=family_metrics_options,
        replicates=family_replicates_options,
        confidence=config["evaluation"]["confidence"],
    shell:
        "python -m spaarsist compare {params.metrics} {params.replicates} {params.pairs} --confidence {params.confidence}"
        " --output {output:q} > {log} 2>&1"


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
        corpora=corpora(config["evaluate_on"], titled=False),
        systems=options("--system", RANKED),
        weights=json.dumps(config["evaluation"]["composite"], sort_keys=True),
    shell:
        "python -m spaarsist composite --summary {input.summary:q} {params.corpora} {params.systems}"
        " --weights {params.weights:q} --output {output.composite:q} --sensitivity {output.sensitivity:q} > {log} 2>&1"
