# The runs: one training per back-end and seed, one scoring per training and corpus; before them, a cache of frames.


localrules:
    features_space,


rule features_space:
    input:
        train_list=f"{RESULTS}/trials/{config['train_on']}.tsv",
        dev_list=f"{RESULTS}/trials/{config['select_on']}.tsv",
        frontend=FRONTEND,
    output:
        f"{RESULTS}/logs/features/space.txt",
    log:
        f"{RESULTS}/logs/features/space.log",
    benchmark:
        f"{RESULTS}/benchmarks/features_space.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        recipe=space_recipe,
        dev_list=dev_list_option(),
        directory=FEATURES,
    shell:
        "python -m spaarsist features-space --train-list {input.train_list:q} {params.dev_list}"
        " --recipe {params.recipe:q} --directory {params.directory:q} --output {output:q} > {log} 2>&1"


rule features:
    input:
        trials=f"{RESULTS}/trials/{{corpus}}.tsv",
        frontend=FRONTEND,
        space=ancient(f"{RESULTS}/logs/features/space.txt"),
    output:
        frames=f"{FEATURES}/{{corpus}}/view{{view}}/part{{part}}.npy",
        record=f"{FEATURES}/{{corpus}}/view{{view}}/part{{part}}.json",
    log:
        f"{RESULTS}/logs/features/{{corpus}}_view{{view}}_part{{part}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features/{{corpus}}_view{{view}}_part{{part}}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["score_threads"] + COMPUTE["workers"]
    resources:
        mem_mb=16000,
        runtime=240,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        folder=subpath(output.frames, parent=True),
        recipe=part_recipe,
        which=view_option,
        parts=len(PARTS),
        batch_size=COMPUTE["batch_size"],
        device=COMPUTE["device"],
        torch_threads=COMPUTE["score_threads"],
        workers=COMPUTE["workers"],
    shell:
        "python -m spaarsist features --trial-list {input.trials:q} --output {params.folder:q} {params.which}"
        " --part {wildcards.part} --parts {params.parts} --recipe {params.recipe:q} --batch-size {params.batch_size}"
        " --device {params.device} --threads {params.torch_threads} --workers {params.workers} > {log} 2>&1"


use rule features as dev_features with:
    output:
        frames=f"{FEATURES}/{{corpus}}/excerpts/part{{part}}.npy",
        record=f"{FEATURES}/{{corpus}}/excerpts/part{{part}}.json",
    log:
        f"{RESULTS}/logs/features/{{corpus}}_excerpts_part{{part}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features/{{corpus}}_excerpts_part{{part}}.tsv"


rule train:
    input:
        train_list=f"{RESULTS}/trials/{config['train_on']}.tsv",
        dev_list=f"{RESULTS}/trials/{config['select_on']}.tsv",
        frontend=FRONTEND,
        features=TRAIN_FEATURES + DEV_FEATURES,
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
    threads: max(COMPUTE["gpu"], 1) * (COMPUTE["train_threads"] + COMPUTE["workers"])
    resources:
        mem_mb=8000 + 16000 * COMPUTE["gpu"],
        runtime=2880,
        gpu=COMPUTE["gpu"],
    params:
        folder=subpath(output.weights, parent=True),
        recipe=recipe_of,
        features=feature_options(),
        processes=max(COMPUTE["gpu"], 1),
        device=COMPUTE["device"],
        torch_threads=COMPUTE["train_threads"],
        workers=COMPUTE["workers"],
    # exec: a shell in between would die of a cluster's SIGTERM and take the training along before it has saved
    shell:
        "exec python -m spaarsist train --train-list {input.train_list:q} --dev-list {input.dev_list:q}"
        " --output {params.folder:q} --system {wildcards.trained} --seed {wildcards.seed} --recipe {params.recipe:q}"
        " {params.features} --device {params.device} --processes {params.processes} --threads {params.torch_threads}"
        " --workers {params.workers} > {log} 2>&1"


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
    threads: COMPUTE["score_threads"] + COMPUTE["workers"]
    resources:
        mem_mb=8000 + 8000 * min(COMPUTE["gpu"], 1),
        runtime=1440,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        folder=subpath(input.weights, parent=True),
        variants=variant_options,
        batch_size=COMPUTE["batch_size"],
        device=COMPUTE["device"],
        torch_threads=COMPUTE["score_threads"],
        workers=COMPUTE["workers"],
    shell:
        "python -m spaarsist score --checkpoint {params.folder:q} --trial-list {input.trials:q} --output {output:q}"
        " {params.variants} --batch-size {params.batch_size} --device {params.device} --threads {params.torch_threads}"
        " --workers {params.workers} > {log} 2>&1"
