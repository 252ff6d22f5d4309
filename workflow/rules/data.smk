# How a corpus becomes a trial list.

if config["data"]["source"] != "local":

    rule corpora:
        input:
            modules=modules(
                "data/mini/build.py",
                "data/mini/channel.py",
                "data/mini/vocoders.py",
                "data/mini/recordings.py",
                "data/mini/recordings.tsv",
            ),
        output:
            protocols=PROTOCOLS,
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
            verb=corpora_verb(),
            root=corpora_root,
        shell:
            "python -m spaarsist {params.verb} --output {params.root:q} > {log} 2>&1"


# Compute nodes of clusters often have no network: downloads run where Snakemake does
localrules:
    fetch,


rule fetch:
    output:
        f"{RESULTS}/downloads/{{release}}.json",
    log:
        f"{RESULTS}/logs/fetch/{{release}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch/{{release}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=2880,
    params:
        downloads=downloads,
        offline="--offline" if config["data"]["offline"] else "",
    shell:
        "python -m spaarsist fetch --downloads {params.downloads:q} --release {wildcards.release} --receipt {output:q}"
        " {params.offline} > {log} 2>&1"


rule index:
    input:
        archive=archive_proof,
        modules=modules("data/archives.py", "data/audio.py", "data/protocol.py"),
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
    shell:
        "python -m spaarsist index --archive {params.archive:q} --output {output:q} > {log} 2>&1"


rule trials:
    input:
        protocol=protocol_proof,
        audio=audio_proofs,
        modules=modules("data/archives.py", "data/audio.py", "data/protocol.py"),
    output:
        f"{RESULTS}/trials/{{corpus}}.tsv",
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
        protocol=corpus_protocol,
        form=corpus_format,
        audio=corpus_audio,
        expected=corpus_expected,
        checksum=corpus_checksum,
    shell:
        "python -m spaarsist trials --protocol {params.protocol:q} --format {params.form} {params.audio}"
        " --expected {params.expected} --checksum={params.checksum:q} --output {output:q} > {log} 2>&1"
