"""The commands of the command line: each builds a Config or opens files, and calls one function."""
import argparse
import contextlib
import shlex
import sys
from pathlib import Path

from fastgan.config import LENGTHS, OPTIONS, Config, override, presets, replace, without_length
from fastgan.config.reference import describe_options, describe_recipe
from fastgan.config.validation import validate
from fastgan.errors import UserError
from fastgan.processes import signals_received

# --- fastgan train ----------------------------------------------------------------------------------------------------


def train(options: argparse.Namespace) -> int:
    """Build the configuration, make or reopen the run folder, and run the loop until it is done or
    told to stop.
    """
    if options.list_presets:
        print("\n".join(f"{name:18}{describe_recipe(config)}" for name, config in presets.PRESETS.items()))
        return 0
    config = configuration(options)
    if options.dry_run:
        return _show_what_would_run(config)
    from fastgan.run.folder import next_run_folder
    from fastgan.trainer import Trainer

    resumed = options.resume is not None
    folder = Path(options.resume if resumed else options.out or next_run_folder(Path("runs"), run_name(config)))
    trainer = Trainer.from_config(config, out=folder, resume=resumed)
    with _stopping_on_signals(trainer) as received:
        trainer.fit()
    if received:
        print(f"stopped; continue with:  fastgan train --resume {shlex.quote(str(folder))}")
        return 128 + received[0]
    print(f"done: {folder}")
    return 0


def _show_what_would_run(config: Config) -> int:
    """Print the options that the networks use, as the data complete them, each as --set takes it,
    with its help.
    """
    from fastgan.trainer import completed

    print("\n".join(describe_options(completed(config)[0])))
    return 0


def configuration(options: argparse.Namespace) -> Config:
    """The preset (or the resumed run's options), then --set, then the flags that were given; each
    later one wins.
    """
    if options.resume is not None:
        from fastgan.run.folder import read_options

        if options.out or options.preset:
            raise UserError("--resume reads all options from its run folder: leave out --out and --preset")
        config = read_options(Path(options.resume))
    else:
        config = presets.preset(options.preset or "dcgan")
    for assignment in options.set:
        config = override(config, assignment)
    if any(getattr(options, key) is not None for key in LENGTHS):
        config = without_length(config)
    for key, option in OPTIONS.items():
        if option.flag and getattr(options, key) is not None:
            config = replace(config, key, getattr(options, key))
    if config.model.architecture == "custom":
        raise UserError(
            "this run trains your own networks: continue it from Python, with fastgan.Trainer(G, D, data, "
            "out=FOLDER, resume=True)"
        )
    return validate(config)


def run_name(config: Config) -> str:
    """PRESET-DATA, where a path is called by its last part."""
    return f"{config.preset}-{Path(config.data.source).expanduser().resolve().name}"


def _stopping_on_signals(trainer) -> contextlib.AbstractContextManager[list[int]]:
    """Ctrl-C and SIGTERM ask the trainer to save and stop; a second one ends at once.

    Gives the list of signals received.
    """
    def react(received: list[int]) -> None:
        if len(received) > 1:
            sys.exit(128 + received[-1])
        trainer.request_stop()
    return signals_received(react)


# --- fastgan pack -----------------------------------------------------------------------------------------------------


def pack(options: argparse.Namespace) -> int:
    """Decode a set of images into one file, or check such a file."""
    if options.verify is not None:
        return _verify(options)
    if options.out is None:
        raise UserError(
            "pack needs the images and the output file: fastgan pack SRC OUT, or fastgan pack --verify FILE"
        )
    import time

    from fastgan.data.packing.pack import default_decoder
    from fastgan.data.packing.pack import pack as pack_images
    from fastgan.data.sources.opening import open_source

    started, source = time.perf_counter(), open_source(options.source, options.range)
    decoder, decode = options.decoder or default_decoder(source), None
    if decoder == "dali":
        from fastgan.data.dali.decoder import in_dali  # here: it loads torch

        decode = in_dali(num_threads=options.workers)
        print("decoding with DALI (--decoder pillow decodes with Pillow)")
    packed = pack_images(
        source,
        options.out,
        img_resolution=options.resolution,
        img_channels=options.channels,
        skip_bad=options.skip_bad,
        num_workers=options.workers,
        progress=True,
        decode=decode,
        decoder=decoder,
    )
    seconds = time.perf_counter() - started
    num_images, height, width, channels = packed.shape
    num_done = num_images + len(packed.skipped) - packed.num_resumed
    print(
        f"wrote {num_images} images of {height}x{width}x{channels} to {options.out} in {seconds:.1f} s, "
        f"{num_done / seconds:.0f} images/s"
    )
    print("".join(f"{note}\n" for note in source.notes(channels)), end="")
    if packed.skipped:
        print("\n".join([f"skipped {len(packed.skipped)} files:", *packed.skipped]))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from fastgan.data.sources.packed_file import PackedSource

    if options.source is not None:
        raise UserError(f"--verify checks one file and packs nothing: leave out {options.source}")
    source = PackedSource(Path(options.verify))
    source.verify(progress=True)
    print(f"{options.verify} is intact: {source.num_images} images")
    return 0


# --- fastgan sample, eval, info, bench --------------------------------------------------------------------------------


def sample(options: argparse.Namespace) -> int:
    """Write a grid of images from a snapshot."""
    from fastgan.run import snapshots

    if options.num < 1:
        raise UserError(f"--num is {options.num}; it must be above 0")
    _check_seed(options.seed)
    print(
        snapshots.write_samples(
            Path(options.snapshot),
            Path(options.out),
            options.num,
            options.seed,
            options.class_number,
            options.truncation,
        )
    )
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Print how good the images of a snapshot are."""
    from fastgan import evaluation

    _check_seed(options.seed)
    if options.batch_size < 1:
        raise UserError(f"--batch-size is {options.batch_size}; it must be above 0")
    result = evaluation.evaluate_snapshot(
        Path(options.snapshot),
        options.metrics,
        options.data,
        options.features,
        options.device,
        options.batch_size,
        options.seed,
    )
    print(result.to_json() if options.json else result.describe())
    return 0


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}; it must be at least 0 and below {2**32}")


def show_info(options: argparse.Namespace) -> int:
    """Say what this machine offers and what is missing."""
    import json

    from fastgan import info

    facts, describe = (info.collect_ops(), info.describe_ops) if options.ops else (info.collect(), info.describe)
    print(json.dumps(facts, indent=2) if options.json else describe(facts))
    return 0


def bench(arguments: list[str]) -> int:
    """Measure fastgan beside other loops; bench has a parser of its own, loaded here alone."""
    from fastgan.bench.cli import main as run_bench

    return run_bench(arguments, prog="fastgan bench")


