# What the runs are worth, and a look inside. Someone with score files alone can start here.


rule metrics:
    input:
        scores=f"{RESULTS}/scores/{{run}}/{{corpus}}.parquet",
        trials=ancient(f"{RESULTS}/trials/{{corpus}}.tsv"),
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
        trials=contents(),
        code=code.meaning("__main__.metrics"),
    message:
        "Metrics and their resamples: {wildcards.run}, {wildcards.corpus}"
    shell:
        "python -m spaarsist metrics --scores {input.scores:q} --trial-list {input.trials:q} --output {output.metrics:q}"
        " --replicates {output.replicates:q} --cost-model {params.cost:q} --bootstrap {params.bootstrap}"
        " --confidence {params.confidence} --threads {threads} > {log} 2>&1"


rule calibrate:
    input:
        dev_scores=f"{RESULTS}/scores/{{run}}/{config['select_on']}.parquet",
        dev_list=ancient(f"{RESULTS}/trials/{config['select_on']}.tsv"),
        scores=expand(
            f"{RESULTS}/scores/{{{{run}}}}/{{corpus}}.parquet",
            corpus=config["evaluate_on"],
        ),
        trials=ancient(PLAN.trials(*config["evaluate_on"])),
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
        scores=each("scores"),
        lists=trial_lists,
        cost=json.dumps(config["evaluation"]["cost_model"], sort_keys=True),
        trials=contents(config["select_on"], *config["evaluate_on"]),
        code=code.meaning("__main__.calibrate"),
    message:
        "Calibrate {wildcards.run} on the development set"
    shell:
        "python -m spaarsist calibrate --dev-scores {input.dev_scores:q} --dev-list {input.dev_list:q} {params.scores}"
        " {params.lists} --cost-model {params.cost:q} --output {output:q} > {log} 2>&1"


rule changes:
    input:
        scores=lambda wildcards: PLAN.per_corpus(
            "scores", [wildcards.trained], ".parquet"
        ),
        calibration=lambda wildcards: PLAN.per_run(
            "calibration", [wildcards.trained], ".tsv"
        ),
        trials=ancient(PLAN.trials(*config["evaluate_on"])),
    output:
        f"{RESULTS}/changes/{{trained}}.tsv",
    log:
        f"{RESULTS}/logs/changes/{{trained}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/changes/{{trained}}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["score_threads"]
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        scores=each("scores"),
        calibration=each("calibration"),
        lists=trial_lists,
        reference=lambda wildcards: PLAN.as_trained(wildcards.trained),
        # A variance takes fewer resamples than a percentile
        bootstrap=min(config["evaluation"]["bootstrap"], 200),
        confidence=config["evaluation"]["confidence"],
        trials=contents(*config["evaluate_on"]),
        code=code.meaning("__main__.changes"),
    message:
        "What the variants of {wildcards.trained} change, trial by trial"
    shell:
        "python -m spaarsist changes {params.scores} {params.lists} {params.calibration} --reference {params.reference:q}"
        " --bootstrap {params.bootstrap} --confidence {params.confidence} --threads {threads} --output {output:q} > {log} 2>&1"


rule inspect:
    input:
        weights=f"{RESULTS}/checkpoints/{{run}}/model.safetensors",
        record=f"{RESULTS}/checkpoints/{{run}}/model.json",
        trials=ancient(f"{RESULTS}/trials/{{corpus}}.tsv"),
        scores=f"{RESULTS}/scores/{{run}}/{{corpus}}.parquet",
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
        trials=contents(),
        code=code.meaning("__main__.inspect", backend="AASIST"),
        how=for_scoring,
    message:
        "Look into {wildcards.run} on {wildcards.corpus}"
    shell:
        "python -m spaarsist inspect --checkpoint {params.folder:q} --trial-list {input.trials:q} --scores {input.scores:q}"
        " --corpus {wildcards.corpus} --output {output:q} {params.k_infer} {params.temperatures}"
        " --trials-per-class {params.trials_per_class} {params.how} > {log} 2>&1"


# All trainings at once: they meet the same waveforms, which take longer to make than to look at
rule probe:
    input:
        expand(
            "{folder}/{name}",
            folder=PLAN.per_run("checkpoints", PLAN.k_train),
            name=["model.safetensors", "model.json"],
        ),
        trials=ancient(f"{RESULTS}/trials/{{corpus}}.tsv"),
    output:
        directory(f"{RESULTS}/probes/{{corpus}}"),
    log:
        f"{RESULTS}/logs/probe/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/probe/{{corpus}}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["score_threads"] + COMPUTE["workers"]
    resources:
        mem_mb=8000 + 8000 * min(COMPUTE["gpu"], 1),
        runtime=240,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        folders=options("--checkpoint", PLAN.per_run("checkpoints", PLAN.k_train)),
        k_infer=options("--k-infer", config["analysis"]["k_infer"]),
        clips=config["analysis"]["probed"],
        confidence=config["evaluation"]["confidence"],
        trials=contents(),
        code=code.meaning("__main__.probe", backend="AASIST"),
        how=for_scoring,
    message:
        "Probe the AASIST back-ends with clips of {wildcards.corpus}"
    shell:
        "python -m spaarsist probe {params.folders} --trial-list {input.trials:q} --corpus {wildcards.corpus}"
        " --output {output:q} {params.k_infer} --clips-per-class {params.clips} --confidence {params.confidence}"
        " {params.how} > {log} 2>&1"


# What back-ends cost at the paper's size, and at this run's own (audit/complexity.py): rules complexity_paper_size and
# complexity_as_run
SIZES = {
    "paper_size": (
        [],
        " ".join(
            f"--{name.replace('_', '-')} {n}"
            for name, n in config["complexity"].items()
        ),
    ),
    "as_run": (PLAN.records[:1], f"--checkpoint {os.path.dirname(PLAN.records[0])}"),
}
for size, (record, size_options) in SIZES.items():

    rule:
        name:
            f"complexity_{size}"
        input:
            record,
        output:
            counts=f"{RESULTS}/complexity/{size}.tsv",
            breakdown=f"{RESULTS}/complexity/{size}_breakdown.tsv",
        log:
            f"{RESULTS}/logs/complexity_{size}.log",
        benchmark:
            f"{RESULTS}/benchmarks/complexity_{size}.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        params:
            systems=options("--system", PLAN.sized),
            backends=json.dumps(PLAN.counted_backends, sort_keys=True),
            size=size_options,
            code=code.meaning("__main__.complexity"),
        message:
            f"Count parameters and MACs: {size}"
        shell:
            "python -m spaarsist complexity --output {output.counts:q} --breakdown {output.breakdown:q} {params.systems}"
            " --backends {params.backends:q} {params.size} > {log} 2>&1"


# Wall-clock on this machine, where the config names systems to time
for result in [result for result in PLAN.made if result.kind == "benchmark"]:

    rule:
        name:
            result.rule
        input:
            settled(result.inputs),
        output:
            result.outputs,
        log:
            f"{RESULTS}/logs/{result.rule}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{result.rule}.tsv"
        conda:
            ENVIRONMENT
        # Takes every core of this machine, so that nothing runs beside what is timed
        threads: workflow.resource_settings.cores or 1
        resources:
            mem_mb=16000,
            runtime=120,
            gpu=int(config["speed"]["device"] == "cuda"),
        params:
            name=result.name,
            settings=json.dumps(result.arguments),
            reads=fingerprint(*IN_CHECKOUT.get(result.rule, {}).values()),
            code=code.meaning(result.function, backend="AASIST"),
        message:
            f"Time: {result.name}"
        shell:
            "python -m spaarsist benchmark {params.name} --settings {params.settings:q} --output {output:q} > {log} 2>&1"


rule findings:
    input:
        records=PLAN.records,
        inspected=PLAN.inspected,
        dev_list=ancient(f"{RESULTS}/trials/{config['select_on']}.tsv"),
    output:
        f"{RESULTS}/tables/findings.tsv",
    log:
        f"{RESULTS}/logs/findings.log",
    benchmark:
        f"{RESULTS}/benchmarks/findings.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["score_threads"]
    resources:
        mem_mb=8000 + 8000 * min(COMPUTE["gpu"], 1),
        runtime=240,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        records=each("records", "--record"),
        inspected=each("inspected"),
        checkpoint=first_checkpoint,
        trials=contents(config["select_on"]),
        how=for_measuring,
        code=code.meaning("__main__.findings", backend="AASIST"),
    message:
        "Measure what the trainings show"
    shell:
        "python -m spaarsist findings --output {output:q} {params.records} {params.inspected}"
        " --checkpoint {params.checkpoint:q} --dev-list {input.dev_list:q} > {log} 2>&1"


rule provenance:
    input:
        scores=PLAN.scores,
    output:
        f"{RESULTS}/tables/provenance.json",
    log:
        f"{RESULTS}/logs/provenance.log",
    benchmark:
        f"{RESULTS}/benchmarks/provenance.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        scores=each("scores"),
        config_hash=PLAN.config_hash,
        code=code.meaning("__main__.provenance"),
    message:
        "Gather what the results rest on"
    shell:
        "python -m spaarsist provenance {params.scores} --config-hash {params.config_hash} --output {output:q} > {log} 2>&1"


rule summary:
    input:
        metrics=PLAN.metrics,
        replicates=PLAN.replicates,
        complexity=f"{RESULTS}/complexity/paper_size.tsv",
        as_run=f"{RESULTS}/complexity/as_run.tsv",
        scores=PLAN.scores,
    output:
        f"{RESULTS}/tables/summary.tsv",
    log:
        f"{RESULTS}/logs/summary.log",
    benchmark:
        f"{RESULTS}/benchmarks/summary.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        metrics=each("metrics"),
        replicates=each("replicates"),
        scores=each("scores"),
        confidence=config["evaluation"]["confidence"],
        code=code.meaning("__main__.summary"),
    message:
        "Gather sizes and metrics of every system"
    shell:
        "python -m spaarsist summary {params.metrics} {params.replicates} --complexity {input.complexity:q}"
        " --as-run {input.as_run:q} {params.scores} --confidence {params.confidence} --output {output:q} > {log} 2>&1"


rule comparisons:
    input:
        metrics=family_metrics,
        replicates=family_replicates,
    output:
        f"{RESULTS}/tables/comparisons/{{family}}.tsv",
    log:
        f"{RESULTS}/logs/comparisons/{{family}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/comparisons/{{family}}.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        pairs=family_pairs,
        metrics=each("metrics"),
        replicates=each("replicates"),
        confidence=config["evaluation"]["confidence"],
        code=code.meaning("__main__.compare"),
    message:
        "Test the differences of family {wildcards.family}"
    shell:
        "python -m spaarsist compare {params.metrics} {params.replicates} {params.pairs} --confidence {params.confidence}"
        " --output {output:q} > {log} 2>&1"


# Whether systems are as good as others, where the config asks
if config["questions"]:

    rule equivalence:
        input:
            metrics=PLAN.per_corpus("metrics", PLAN.asked_of, ".tsv"),
            replicates=PLAN.per_corpus("replicates", PLAN.asked_of, ".parquet"),
        output:
            f"{RESULTS}/tables/equivalence.tsv",
        log:
            f"{RESULTS}/logs/equivalence.log",
        benchmark:
            f"{RESULTS}/benchmarks/equivalence.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        params:
            metrics=each("metrics"),
            replicates=each("replicates"),
            questions=json.dumps({"questions": config["questions"]}),
            confidence=config["evaluation"]["confidence"],
            code=code.meaning("__main__.equivalence"),
        message:
            "Answer the questions that were asked before the run"
        shell:
            "python -m spaarsist equivalence {params.metrics} {params.replicates} --questions {params.questions:q}"
            " --confidence {params.confidence} --output {output:q} > {log} 2>&1"


rule composite:
    input:
        summary=f"{RESULTS}/tables/summary.tsv",
        replicates=PLAN.ranked_replicates,
    output:
        composite=f"{RESULTS}/tables/composite.tsv",
        sensitivity=f"{RESULTS}/tables/composite_sensitivity.tsv",
    log:
        f"{RESULTS}/logs/composite.log",
    benchmark:
        f"{RESULTS}/benchmarks/composite.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        corpora=options("--corpus", config["evaluate_on"]),
        systems=options("--system", PLAN.ranked),
        replicates=each("replicates"),
        weights=json.dumps(config["evaluation"]["composite"], sort_keys=True),
        confidence=config["evaluation"]["confidence"],
        code=code.meaning("__main__.composite"),
    message:
        "Rank the systems by the composite score"
    shell:
        "python -m spaarsist composite --summary {input.summary:q} {params.replicates} {params.corpora} {params.systems}"
        " --weights {params.weights:q} --confidence {params.confidence} --output {output.composite:q} --sensitivity {output.sensitivity:q} > {log} 2>&1"
