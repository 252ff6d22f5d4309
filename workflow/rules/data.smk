# How a corpus becomes a trial list.

if PLAN.protocols:

    # Once built, a corpus stays as it is: what was trained on it and scored on it would not be what it says otherwise
    rule corpora:
        output:
            protocols=PLAN.protocols,
        log:
            f"{RESULTS}/logs/corpora.log",
        benchmark:
            f"{RESULTS}/benchmarks/corpora.tsv"
        conda:
            ENVIRONMENT
        threads: 2
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            verb=corpora_verb,
            root=corpora_root,
        message:
            "Build the corpora"
        shell:
            "python -m spaarsist {params.verb} --output {params.root:q} > {log} 2>&1"


# Compute nodes of clusters often have no network: downloads run where Snakemake does
rule fetch:
    output:
        f"{RESULTS}/downloads/{{release}}.json",
    log:
        f"{RESULTS}/logs/fetch/{{release}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch/{{release}}.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        downloads=downloads,
        offline=offline,
    message:
        "Fetch and verify {wildcards.release}"
    shell:
        "python -m spaarsist fetch --downloads {params.downloads:q} --release {wildcards.release} --receipt {output:q}"
        " {params.offline} > {log} 2>&1"


rule index:
    input:
        archive=archive_proof,
    output:
        f"{RESULTS}/index/{{archive}}.tsv",
    log:
        f"{RESULTS}/logs/index/{{archive}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/index/{{archive}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        archive=archive_path,
        code=code.meaning("__main__.index"),
    message:
        "List what is in {wildcards.archive}"
    shell:
        "python -m spaarsist index --archive {params.archive:q} --output {output:q} > {log:q} 2>&1"


rule trials:
    input:
        protocol=protocol_proof,
        audio=audio_proofs,
    # `update`: what waits for a list that could not be made anew must find the old one, or all its jobs look changed
    output:
        update(f"{RESULTS}/trials/{{corpus}}.tsv"),
    log:
        f"{RESULTS}/logs/trials/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/trials/{{corpus}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        corpus=corpus_options,
        code=code.meaning("__main__.trials"),
    message:
        "List the trials of {wildcards.corpus}"
    shell:
        "python -m spaarsist trials {params.corpus} --output {output:q} > {log} 2>&1"
