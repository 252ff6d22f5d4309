# The runs: one training per back-end and seed, one scoring per training and corpus; before them, a cache of frames.
#
# Their outputs are marked `update`, so that Snakemake does not delete them: the verbs look at what lies there, keep what
# was made of the same things, and refuse to replace a training or a cache that was not. Trial lists are `ancient`, since
# they name places; that their contents are the same is among the parameters.


# One batch of everything. Where the run costs days, trainings and caches wait for it; where it fails, they do not begin
rule preflight:
    input:
        train_list=ancient(f"{RESULTS}/trials/{config['train_on']}.tsv"),
        dev_list=ancient(f"{RESULTS}/trials/{config['select_on']}.tsv"),
        frontend=ancient(PLAN.frontend_proofs),
    output:
        PLAN.preflight_report,
    log:
        f"{RESULTS}/logs/preflight.log",
    benchmark:
        f"{RESULTS}/benchmarks/preflight.tsv"
    # What does not fit today does not fit in a minute
    retries: 0
    conda:
        ENVIRONMENT
    threads: COMPUTE["train_threads"] + COMPUTE["workers"]
    resources:
        mem_mb=24000,
        runtime=60,
        gpu=min(COMPUTE["gpu"], 1),
    params:
        settings=preflight_settings,
        made_of={name: PLAN.recipe_of(name, placed=False) for name in PLAN.trainings},
        seeds=config["seeds"],
    message:
        "Preflight: try one batch of every step, forecast hours and disk"
    # On the terminal as well: its table is for people
    shell:
        "set -o pipefail; python -m spaarsist preflight --settings {params.settings:q} --output {output:q} 2>&1 | tee {log}"


rule features_space:
    input:
        train_list=ancient(f"{RESULTS}/trials/{config['train_on']}.tsv"),
        dev_list=ancient(f"{RESULTS}/trials/{config['select_on']}.tsv"),
        frontend=ancient(PLAN.frontend_proofs),
    output:
        f"{RESULTS}/logs/features/space.txt",
    log:
        f"{RESULTS}/logs/features/space.log",
    benchmark:
        f"{RESULTS}/benchmarks/features_space.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        recipe=space_recipe,
        dev_list=cached_dev_list,
        directory=FEATURES,
    message:
        "Compare the caches' need with the free disk space"
    shell:
        "python -m spaarsist features-space --train-list {input.train_list:q} {params.dev_list}"
        " --recipe {params.recipe:q} --directory {params.directory:q} --output {output:q} > {log} 2>&1"


rule features:
    input:
        trials=ancient(f"{RESULTS}/trials/{{corpus}}.tsv"),
        frontend=ancient(PLAN.frontend_proofs),
        space=ancient(f"{RESULTS}/logs/features/space.txt"),
        go_ahead=ancient(PLAN.go_ahead),
    output:
        frames=update(f"{FEATURES}/{{corpus}}/view{{view}}/part{{part}}.npy"),
        record=update(f"{FEATURES}/{{corpus}}/view{{view}}/part{{part}}.json"),
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
        made_of=part_made_of,
        trials=contents(),
        view=view_option,
        parts=len(PLAN.parts),
        how=for_scoring,
    message:
        "Cache frames of {wildcards.corpus}, part {wildcards.part}"
    shell:
        "python -m spaarsist features --trial-list {input.trials:q} --output {params.folder:q} {params.view}"
        " --part {wildcards.part} --parts {params.parts} --recipe {params.recipe:q} {params.how} > {log} 2>&1"


use rule features as dev_features with:
    output:
        frames=update(f"{FEATURES}/{{corpus}}/excerpts/part{{part}}.npy"),
        record=update(f"{FEATURES}/{{corpus}}/excerpts/part{{part}}.json"),
    log:
        f"{RESULTS}/logs/features/{{corpus}}_excerpts_part{{part}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features/{{corpus}}_excerpts_part{{part}}.tsv"


rule train:
    input:
        train_list=ancient(f"{RESULTS}/trials/{config['train_on']}.tsv"),
        dev_list=ancient(f"{RESULTS}/trials/{config['select_on']}.tsv"),
        frontend=ancient(PLAN.frontend_proofs),
        features=ancient(PLAN.cached),
        go_ahead=ancient(PLAN.go_ahead),
    output:
        weights=update(f"{TRAINED}/model.safetensors"),
        record=update(f"{TRAINED}/model.json"),
        history=update(f"{TRAINED}/history.tsv"),
    log:
        f"{RESULTS}/logs/train/{{trained}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{trained}}_seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: max(COMPUTE["gpu"], 1) * (COMPUTE["train_threads"] + COMPUTE["workers"])
    resources:
        mem_mb=8000 + 16000 * COMPUTE["gpu"],
        # Twice what we expect of an A100; a training that needs longer goes on in the next try
        runtime=600,
        gpu=COMPUTE["gpu"],
    params:
        folder=subpath(output.weights, parent=True),
        recipe=recipe,
        made_of=made_of,
        trials=contents(config["train_on"], config["select_on"]),
        features=cached_features,
        how=for_training,
    message:
        "Train {wildcards.trained}, seed {wildcards.seed}"
    # exec: a shell in between would die of a cluster's SIGTERM and take the training along before it has saved
    shell:
        "exec python -m spaarsist train --train-list {input.train_list:q} --dev-list {input.dev_list:q}"
        " --output {params.folder:q} --system {wildcards.trained} --seed {wildcards.seed} --recipe {params.recipe:q}"
        " {params.features} {params.how} > {log} 2>&1"


rule score:
    input:
        weights=f"{TRAINED}/model.safetensors",
        record=f"{TRAINED}/model.json",
        trials=ancient(f"{RESULTS}/trials/{{corpus}}.tsv"),
    output:
        update(f"{RESULTS}/scores/{{trained}}/seed{{seed}}/{{corpus}}.parquet"),
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
        variants=variants,
        trials=contents(),
        how=for_scoring,
    message:
        "Score {wildcards.corpus} with {wildcards.trained}, seed {wildcards.seed}"
    shell:
        "python -m spaarsist score --checkpoint {params.folder:q} --trial-list {input.trials:q} --output {output:q}"
        " {params.variants} {params.how} > {log} 2>&1"
