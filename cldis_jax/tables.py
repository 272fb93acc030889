"""The tables of the study: python -m cldis_jax.tables --table=main --out=results [--scale=long|full].

Trains and evaluates every cell (method x data set x seed) that is missing in OUT, then writes OUT/main.json, .md, .tex,
.csv and .png: mean and deviation over seeds, floors, and the published rows of the same data set. Stopped and started
again it goes on; launch/tables.sh runs cells side by side.
"""

import os
import pathlib
import re
import shlex

from absl import flags

from cldis_jax import cli
from cldis_jax.runtime import report, visualize
from cldis_jax.study import cells, chart, collecting, rendering, running

TABLE = flags.DEFINE_enum("table", None, list(cells.SEEDS), "which one")
OUT = flags.DEFINE_string("out", None, "folder of the results of one scale; tables that share one share their cells")
SCALE = flags.DEFINE_enum("scale", "cpu", cells.SCALES, "the small study, three times as long, or full sizes")
SHARD = flags.DEFINE_string("shard", "0/1", "I/N: of the cells only every N-th, from number I (from 0) on")
ONLY = flags.DEFINE_string("only", "", "a regular expression: run only the cells in whose id (--dry_run) it is found")
COLLECT = flags.DEFINE_bool("collect", False, "run nothing, only gather what is there")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the commands of every cell and how it stands")
SEEDS = flags.DEFINE_integer("seeds", None, "seeds of every method (default: the table's)", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", None, "training steps of every method (default: the scale's)", lower_bound=1)
DATA = flags.DEFINE_multi_string(
    "data",
    [],
    "NAME=PATH, repeatable: the published files of cars3d or mpi3d, or the folder of prepared TFDS sets of shapes3d or "
    "celeba",
)
INCEPTION = flags.DEFINE_string("inception_weights", None, "celeba: file of the Inception network, for FID")
LPIPS = flags.DEFINE_list("lpips_weights", None, "celeba: files of AlexNet and of LPIPS")


def options() -> cells.Options:
    """What the flags say.

    Raises:
      ValueError, FileNotFoundError: a data set, file or number of files that can't be.
    """
    data = {}
    for text in DATA.value:
        name, _, path = text.partition("=")
        if name not in cells.NEED_FILES or not path:
            raise ValueError(f"--data={text!r} is not NAME=PATH with a NAME of {', '.join(cells.NEED_FILES)}")
        data[name] = path if "://" in path else os.path.abspath(os.path.expanduser(path))
    if LPIPS.value and len(LPIPS.value) != 2:
        raise ValueError(f"--lpips_weights takes two files, AlexNet's and LPIPS's, not {len(LPIPS.value)}")
    weights = {}
    for flag, files in ((INCEPTION, [INCEPTION.value] if INCEPTION.value else []), (LPIPS, LPIPS.value or [])):
        for file in files:
            if not os.path.isfile(file):
                raise FileNotFoundError(f"--{flag.name}: there is no file {file}")
        if files:
            weights[flag.name] = ",".join(map(os.path.abspath, files))
    return cells.Options(STEPS.value, SEEDS.value, data, weights)


def shard() -> tuple[int, int]:
    """(I, N) of --shard=I/N; raises ValueError for anything else."""
    index, _, count = SHARD.value.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"--shard={SHARD.value!r} is not I/N with I from 0 to N - 1")
    return int(index), int(count)


def check_free(chosen: tuple[cells.Cell, ...], out: pathlib.Path) -> None:
    """Raise ValueError where a cell would take the place of a run of another config."""
    for cell in chosen:
        if differing := running.occupied(cell, cell.folder(out)):
            raise ValueError(
                f"{cell.folder(out)} holds a run of another config ({differing}); choose another --out, each --scale "
                "has one of its own, or remove that folder"
            )


def run(chosen: tuple[cells.Cell, ...], out: pathlib.Path) -> int:
    """Run the chosen cells that are not done; returns how many failed."""
    failed, lacks = 0, {}
    with running.Children() as children:
        for i, cell in enumerate(chosen, start=1):
            folder = cell.folder(out)
            if running.state(cell, folder)[0] == "done":
                continue
            if cell.dataset not in lacks:
                lacks[cell.dataset] = running.missing_data(cells.resolve(cell))
            print(f"[{i}/{len(chosen)}] {cell.id}, log in {folder / 'log.txt'}", flush=True)
            status = running.run_cell(cell, folder, children, lacks[cell.dataset])
            _, why = running.state(cell, folder) if status != "run elsewhere" else (status, "")
            print(f"[{i}/{len(chosen)}] {cell.id}: {status}{f': {why}' if why else ''}", flush=True)
            failed += status == "failed"
    return failed


def write(table: cells.Table, out: pathlib.Path) -> None:
    """Gather the table, write it in every format, and print it."""
    collected = collecting.collect(table, out)
    report.write_json(out / f"{table.name}.json", collected.to_json())
    (out / f"{table.name}.md").write_text(rendering.to_markdown(collected))
    (out / f"{table.name}.tex").write_text(rendering.to_latex(collected))
    (out / f"{table.name}.csv").write_text(rendering.to_csv(collected))
    picture = chart.bars(collected)
    if picture is not None:
        visualize.save_png(out / f"{table.name}.png", picture)
    kinds = ".json, .md, .tex, .csv" + ("" if picture is None else ", .png")
    print(f"\n{rendering.to_text(collected)}\n\ntable: {out / table.name}{kinds}", flush=True)


def main() -> None:
    for flag in (TABLE, OUT):
        cli.require(flag)
    if "://" in OUT.value:
        raise ValueError(f"--out={OUT.value} must be a folder of this machine, or one that machines share")
    index, count = shard()
    table = cells.make_table(TABLE.value, SCALE.value, options())
    chosen = cells.shard(tuple(cell for cell in table.cells if re.search(ONLY.value, cell.id)), index, count)
    if not chosen and count == 1:
        raise ValueError(f"--only={ONLY.value!r} is found in no cell's id, e.g. {table.cells[0].id}")
    out = pathlib.Path(OUT.value).expanduser().absolute()
    if DRY_RUN.value:
        for cell in chosen:
            print(f"# {cell.id}: {running.state(cell, cell.folder(out))[0]}")
            print("\n".join(shlex.join(command) for command in running.commands(cell, cell.folder(out))))
        return

    if out.exists() and not out.is_dir():
        raise ValueError(f"--out={OUT.value} is not a folder")
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    if not COLLECT.value:
        check_free(chosen, out)
        failed = run(chosen, out)
    waited_for = chosen if count == 1 else table.cells  # the last of several jobs writes the table
    unfinished = [c.id for c in waited_for if running.state(c, c.folder(out))[0] not in running.SETTLED]
    if unfinished and not COLLECT.value:
        print(f"{len(unfinished)} cells are not finished yet, {unfinished[0]} first; --collect shows what there is")
    else:
        write(table, out)
    if failed:
        raise ValueError(f"{failed} cells failed; the same command tries them again")


if __name__ == "__main__":
    cli.run(main)
