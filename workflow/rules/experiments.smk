# The runs: one training per back-end and seed, one scoring per training and corpus.


rule train:
    input:
        train_list=f"{RESULTS}/trials/{config['train_on']}.tsv",
        dev_list=f"{RESULTS}/trials/{config['select_on']}.tsv",
    output:
        weights=f"{RESULTS}/checkpoints/{{trained}}/seed{{seed}}/model.safetensors",
        record=f"{RESULTS}/checkpoints/{{trained}}/seed{{seed}}/model.json",
        history=f"{RESULTS}/checkpoints/{{trained}}/seed{{seed}}/history.tsv",
    log:
        f"{RESULTS}/logs/train/{{trained}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{trained}}_seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["train_threads"]
    resources:
        mem_mb=8000,
        runtime=2880,
        gpu=COMPUTE["gpu"],
    params:
        folder=subpath(output.weights, parent=True),
        recipe=recipe_of,
        workers=COMPUTE["workers"],
    shell:
        "python -m spaarsist train --train-list {input.train_list:q} --dev-list {input.dev_list:q}"
        " --output {params.folder:q} --system {wildcards.trained} --seed {wildcards.seed} --recipe {params.recipe:q}"
        " --threads {threads} --workers {params.workers} > {log} 2>&1"


rule score:
    input:
        weights=f"{RESULTS}/checkpoints/{{trained}}/seed{{seed}}/model.safetensors",
        record=f"{RESULTS}/checkpoints/{{trained}}/seed{{seed}}/model.json",
        trials=f"{RESULTS}/trials/{{corpus}}.tsv",
    output:
        f"{RESULTS}/scores/{{trained}}/seed{{seed}}/{{corpus}}.parquet",
    log:
        f"{RESULTS}/logs/score/{{trained}}_seed{{seed}}_{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{{trained}}_seed{{seed}}_{{corpus}}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["score_threads"]
    resources:
        mem_mb=8000,
        runtime=720,
        gpu=COMPUTE["gpu"],
    params:
        folder=subpath(input.weights, parent=True),
        variants=variant_options,
        batch_size=COMPUTE["batch_size"],
        workers=COMPUTE["workers"],
    shell:
        "python -m spaarsist score --checkpoint {params.folder:q} --trial-list {input.trials:q} --output {output:q}"
        " {params.variants} --batch-size {params.batch_size} --threads {threads} --workers {params.workers}"
        " > {log} 2>&1"
