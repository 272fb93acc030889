"""The tables of the study: python -m cldis_jax.tables --table=main --out=results [--scale=long|full].

Trains and evaluates every cell (method x data set x seed) that is missing in OUT, then writes OUT/main.json, .md, .tex,
.csv and .png: means and 95 % intervals over seeds, differences, floors, and the published rows of the same data set.
OUT/cells.jsonl holds the records of all cells. A second run continues where the first stopped; launch/tables.sh
runs cells side by side.
"""

import os
import pathlib
import re
import shlex

from absl import flags

from cldis_jax import cli
from cldis_jax.runtime import report, visualize
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import in_bucket
from cldis_jax.study import cells, chart, children, collecting, records, rendering, running

TABLE = flags.DEFINE_enum("table", None, list(cells.SEEDS), "table to make")
OUT = flags.DEFINE_string("out", None, "folder for the results of one scale; tables with the same folder share cells")
SCALE = flags.DEFINE_enum("scale", "cpu", cells.SCALES, "small networks; the same, three times longer; full sizes")
SHARD = flags.DEFINE_string("shard", "0/1", "I/N: run only every N-th cell, starting at number I (from 0)")
ONLY = flags.DEFINE_string("only", "", "a regular expression: run only the cells whose id (--dry_run) contains a match")
COLLECT = flags.DEFINE_bool("collect", False, "run nothing; write the table of the results so far")
AS_RUN = flags.DEFINE_bool(
    "as_run", False, "with --collect: take the cells of OUT with the configs that they were run with"
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the status and the commands of every cell")
SEEDS = flags.DEFINE_string("seeds", "", "seeds of every method: N for 0 to N - 1, or A-B (default: the table's N)")
STEPS = flags.DEFINE_integer("steps", None, "training steps of every method (default: the scale's)", lower_bound=1)
DATA = flags.DEFINE_multi_string(
    "data",
    [],
    "NAME=PATH, repeatable: the published files of cars3d or mpi3d; the folder of prepared TFDS sets of shapes3d, and "
    "at --scale=full of celeba; at other scales the folder or zip of celeba's images and attributes",
)
INCEPTION = flags.DEFINE_string("inception_weights", None, "celeba: file of the Inception network, for FID")
LPIPS = flags.DEFINE_list("lpips_weights", None, "celeba: files of AlexNet and of LPIPS")


def options() -> cells.Options:
    """The options that the flags ask for.

    Raises:
      UserError: an unknown data set, a missing file, or a wrong number of files.
    """
    data = {}
    for text in DATA.value:
        name, _, path = text.partition("=")
        if name not in cells.NEED_FILES or not path:
            raise UserError(f"--data={text!r} is not NAME=PATH with a NAME of {', '.join(cells.NEED_FILES)}")
        data[name] = path if "://" in path else os.path.abspath(os.path.expanduser(path))
    if LPIPS.value and len(LPIPS.value) != 2:
        raise UserError(f"--lpips_weights takes two files, AlexNet's and LPIPS's, not {len(LPIPS.value)}")
    weights = {}
    for flag, files in ((INCEPTION, [INCEPTION.value] if INCEPTION.value else []), (LPIPS, LPIPS.value or [])):
        for file in files:
            if not os.path.isfile(file):
                raise UserError(f"--{flag.name}: there is no file {file}")
        if files:
            weights[flag.name] = ",".join(map(os.path.abspath, files))
    return cells.Options(STEPS.value, seeds(), data, weights)


def seeds() -> range | None:
    """The seeds of --seeds=N or --seeds=A-B, with B among them; None without the flag.

    Raises:
      UserError: the flag is neither, or there is no seed from A to B.
    """
    first, dash, last = SEEDS.value.rpartition("-")
    if not SEEDS.value:
        return None
    if not (last.isdecimal() and (first.isdecimal() or not dash)):
        raise UserError(f"--seeds={SEEDS.value!r} is not a number N or a range A-B")
    found = range(int(first), int(last) + 1) if dash else range(int(last))
    if not found:
        raise UserError(f"--seeds={SEEDS.value!r} has no seed")
    return found


def shard() -> tuple[int, int]:
    """(I, N) of --shard=I/N; raises UserError for anything else."""
    index, _, count = SHARD.value.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UserError(f"--shard={SHARD.value!r} is not I/N with I from 0 to N - 1")
    return int(index), int(count)


def check_free(chosen: tuple[cells.Cell, ...], out: pathlib.Path) -> None:
    """Raise UserError if OUT has a run of one of the cells with another config."""
    found = records.read(out)
    for cell in chosen:
        if differing := records.conflict(cell, found.get(cell.id), cell.folder(out)):
            place = cell.folder(out) if cell.folder(out).exists() else f"{out / records.LINES}: {cell.id}"
            raise UserError(
                f"{place} holds a run of another config ({differing}); remove it or choose another --out (each --scale "
                "needs its own)"
            )


def run(chosen: tuple[cells.Cell, ...], out: pathlib.Path) -> int:
    """Run the chosen cells that are not done; returns how many failed."""
    failed, no_data, lines = 0, {}, records.read_lines(out)
    with children.Children() as runner:
        for i, cell in enumerate(chosen, start=1):
            folder = cell.folder(out)
            if records.state(cell, records.read_folder(folder) or lines.get(cell.id))[0] == "done":
                continue
            if cell.dataset not in no_data:
                no_data[cell.dataset] = running.missing_data(cells.resolve(cell))
            print(f"[{i}/{len(chosen)}] {cell.id}, log in {folder / 'log.txt'}", flush=True)
            status = running.run_cell(cell, folder, runner, no_data[cell.dataset])
            why = "" if status == "run elsewhere" else records.state(cell, records.read_folder(folder))[1]
            print(f"[{i}/{len(chosen)}] {cell.id}: {status}{f': {why}' if why else ''}", flush=True)
            failed += status == "failed"
    return failed


def write(table: cells.Table, out: pathlib.Path) -> None:
    """Collect the table, write it in every format, and print it; the records of all cells go into OUT/cells.jsonl."""
    records.write_lines(out)
    collected = collecting.collect(table, out, AS_RUN.value)
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
    if in_bucket(OUT.value):
        raise UserError(f"--out={OUT.value} must be a folder of this machine, or one that machines share")
    index, count = shard()
    table = cells.make_table(TABLE.value, SCALE.value, options())
    try:
        named = tuple(cell for cell in table.cells if re.search(ONLY.value, cell.id))
    except re.error as error:
        raise UserError(f"--only={ONLY.value!r} is no regular expression: {error}") from None
    chosen = cells.shard(named, index, count)
    if not chosen and count == 1:
        raise UserError(f"--only={ONLY.value!r} matches the id of no cell; an id is {table.cells[0].id}")
    out = pathlib.Path(OUT.value).expanduser().absolute()
    if DRY_RUN.value:
        found = records.read(out)
        for cell in chosen:
            print(f"# {cell.id}: {records.state(cell, found.get(cell.id))[0]}")
            print("\n".join(shlex.join(command) for command in running.commands(cell, cell.folder(out))))
        return

    if AS_RUN.value and not COLLECT.value:
        raise UserError("--as_run needs --collect: a cell that runs has the config of this version")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={OUT.value} is not a folder")
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    if not COLLECT.value:
        check_free(chosen, out)
        failed = run(chosen, out)
    found = records.read(out)
    needed = chosen if count == 1 else table.cells  # the last of several jobs writes the table
    unfinished = [c.id for c in needed if records.state(c, found.get(c.id))[0] not in running.SETTLED]
    if unfinished and not COLLECT.value:
        print(f"{len(unfinished)} cells are not finished, {unfinished[0]} first; --collect writes the table so far")
    else:
        write(table, out)
    if failed:
        raise UserError(f"{failed} cells failed; the same command runs them again")


if __name__ == "__main__":
    cli.run(main)
