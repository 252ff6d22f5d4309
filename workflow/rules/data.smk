# How a corpus becomes a trial list.

if config["data"]["source"] != "local":

    rule corpora:
        input:
            modules=modules(
                "data/mini.py",
                "data/channel.py",
                "data/vocoders.py",
                "data/recordings.py",
                "data/recordings.tsv",
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


rule trials:
    input:
        protocol=corpus_protocol,
        modules=modules("data/protocol.py", "data/audio.py"),
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
        mem_mb=4000,
        runtime=240,
    params:
        form=corpus_format,
        audio=corpus_audio,
        expected=corpus_expected,
    shell:
        "python -m spaarsist trials --protocol {input.protocol:q} --format {params.form} --audio {params.audio:q}"
        " --expected {params.expected} --output {output:q} > {log} 2>&1"
