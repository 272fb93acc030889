"""Labels beside pictures: a table of attributes, CelebA's own files, or a folder for each class."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cldis_jax.data.listing import LABEL_FILES, Listing, some
from cldis_jax.data.source import DataError

ATTRIBUTES = tuple(name for name in LABEL_FILES if "partition" not in name)
PARTITION = tuple(name for name in LABEL_FILES if "partition" in name)
PART_COLUMNS = ("partition", "split")  # of a table of attributes
PARTS = {"0": "train", "1": "valid", "2": "test", "training": "train", "val": "valid", "validation": "valid"}
VALUES = {"1": 1, "+1": 1, "1.0": 1, "True": 1, "true": 1, "TRUE": 1}
VALUES |= {"0": 0, "-1": 0, "0.0": 0, "-1.0": 0, "False": 0, "false": 0, "FALSE": 0}
SISTERS = ("Anno", "Eval")  # folders of CelebA as it is published


@dataclasses.dataclass
class Labels:
    """Binary attributes of every image, or the number of its class, and the part of the set that it belongs to."""

    names: tuple[str, ...] = ()
    values: np.ndarray | None = None  # uint8 [N, A], or the classes int64 [N]
    parts: list[str] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)  # lines for the user

    def of(self, indices: np.ndarray) -> np.ndarray:
        """Attributes int64 0 or 1 [B, A]; a class is one attribute of several."""
        if self.values is None:
            return np.zeros((len(indices), 0), np.int64)
        found = self.values[indices]
        if found.ndim == 1:
            found = found[:, None] == np.arange(len(self.names))
        return found.astype(np.int64)

    def take(self, indices: np.ndarray) -> "Labels":
        values = None if self.values is None else self.values[indices]
        parts = None if self.parts is None else [self.parts[i] for i in indices]
        return dataclasses.replace(self, values=values, parts=parts)


def find(listing: Listing) -> Labels:
    """The labels of all images of a listing, from the first file found in or beside it, else from its folders."""
    labels = Labels()
    for wanted in (ATTRIBUTES, PARTITION):
        found = _text(listing, wanted)
        if found is None:
            continue
        file, text = found
        try:
            _add(labels, listing, file, text)
        except (csv.Error, ValueError) as error:
            labels.notes.append(f"{file} can't be read as labels: {error}")
    if labels.values is None and labels.parts is None:
        _classes(labels, listing)
    return labels


def choose(listing: Listing, labels: Labels, split: str) -> np.ndarray:
    """Indices of the part of the images that `data.split` names: a folder, or a part in the file of partitions.

    Raises:
      DataError: there is no such part.
    """
    if not split:
        return np.arange(len(listing))
    wanted = split.strip("/").split("/")
    start = _common_depth(listing.names)
    inside = [name.split("/")[:-1] for name in listing.names]
    chosen = [i for i, folders in enumerate(inside) if folders[start : start + len(wanted)] == wanted]
    if not chosen and labels.parts is not None:
        part = PARTS.get(split, split)
        chosen = [i for i, found in enumerate(labels.parts) if found == part]
    if not chosen:
        folders = sorted({folders[start] for folders in inside if len(folders) > start})
        parts = sorted(set(labels.parts or ()) - {""})
        there = f"its folders are {some(folders)}" if folders else "it has no folders"
        there += f", its parts {some(parts)}" if parts else ", and no file names its parts"
        raise DataError(f"data.split={split!r} is no part of {listing.root}: {there}")
    return np.array(chosen)


def _text(listing: Listing, wanted: Sequence[str]) -> tuple[str, str] | None:
    """Name and content of the first file of these names: inside, beside, or in the published folders of CelebA."""
    inside = sorted((name for name in listing.tables if name.rpartition("/")[2] in wanted), key=lambda n: n.count("/"))
    if inside:
        content = listing.open(inside[0])
        data = content.read_bytes() if isinstance(content, Path) else content.read()
        return inside[0], data.decode("utf-8-sig", "replace")
    root = listing.root.absolute()
    beside = [root.parent, *(folder / sister for folder in (root.parent, root.parent.parent) for sister in SISTERS)]
    for name in wanted:
        for folder in beside:
            if (folder / name).is_file():
                return str(folder / name), (folder / name).read_text("utf-8-sig", "replace")
    return None


def _add(labels: Labels, listing: Listing, file: str, text: str) -> None:
    columns, rows = _table(file, text)
    position = _positions(listing)
    known: dict[int, list[str]] = {}
    double, unknown, broken = [], [], []
    for name, *cells in rows:
        i = position(name)
        if i is None:
            unknown.append(name)
        elif i in known:
            double.append(name)
        elif len(cells) != len(columns):
            broken.append(name)
        else:
            known[i] = cells
    if not known:
        labels.notes.append(f"{file} names none of the images")
        return
    missing = [listing.names[i] for i in range(len(listing)) if i not in known]
    kinds = (
        (missing, "images have no row and count as 0"),
        (double, "rows are double, and the first counts"),
        (broken, "rows have another number of cells"),
        (unknown, "rows name no image"),
    )
    if problems := [f"{len(names):,} {what} ({some(names)})" for names, what in kinds if names]:
        labels.notes.append(f"{file}: {'; '.join(problems)}")

    for c, column in enumerate(columns):
        if column.lower() in PART_COLUMNS:
            part_of = {i: PARTS.get(cells[c].lower(), cells[c].lower()) for i, cells in known.items()}
            labels.parts = [part_of.get(i, "") for i in range(len(listing))]
    kept = [c for c, column in enumerate(columns) if column.lower() not in PART_COLUMNS]
    if not kept:
        return
    read = np.array([list(map(VALUES.get, cells)) for cells in known.values()], np.float32)
    others = [columns[c] for c in kept if np.isnan(read[:, c]).any()]
    kept = [c for c in kept if columns[c] not in others]
    if others:
        labels.notes.append(f"{file}: left out, because they have other values than 0, 1 and -1: {some(others)}")
    if kept:
        labels.names = tuple(columns[c] for c in kept)
        labels.values = np.zeros((len(listing), len(kept)), np.uint8)
        labels.values[list(known)] = read[:, kept]


def _table(file: str, text: str) -> tuple[list[str], list[list[str]]]:
    """Columns after the first, and rows: the name of an image, then its cells."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("it is empty")
    if file.endswith(".txt"):  # as CelebA is published
        rows = [line.split() for line in lines]
        if "partition" in file.rpartition("/")[2]:
            return ["partition"], rows
        return rows[1], rows[2:]  # after the number of images
    delimiter = "\t" if file.endswith(".tsv") else max(",;\t", key=lines[0].count)
    columns, *rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    columns = [column.strip() for column in columns]
    if len(columns) < 2:
        raise ValueError("its first line must name the columns: the image's, then the attributes'")
    if all(cell in VALUES for cell in columns[1:]):
        raise ValueError("its first line must name the columns, and it holds values")
    return columns[1:], rows


def _positions(listing: Listing):
    """A function from a name in a table to the index of its image, or None.

    Names count from the root. The root's own name before them, another suffix, or no folder at all are accepted where
    one image alone can be meant.
    """
    full = {name: i for i, name in enumerate(listing.names)}
    loose: dict[str, int | None] = {}
    for i, name in enumerate(listing.names):
        stem, last = name.rpartition(".")[0], name.rpartition("/")[2]
        for other in {stem, last, last.rpartition(".")[0]} - {name}:
            loose[other] = None if other in loose else i

    def position(name):
        name = name.replace("\\", "/").removeprefix("./").removeprefix(f"{listing.root.name}/")
        for found in (full.get(name), loose.get(name), loose.get(name.rpartition(".")[0])):
            if found is not None:
                return found
        return None

    return position


def _common_depth(names: Sequence[str]) -> int:
    """How many folders all images share, so that a zip of one folder is like that folder."""
    if not names:
        return 0
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]
    return next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))


def _classes(labels: Labels, listing: Listing) -> None:
    """Each folder is a class, if there are several, all at one depth, and they aren't parts of the set."""
    folders = [name.split("/")[:-1] for name in listing.names]
    if not folders or len({len(parts) for parts in folders}) > 1 or not folders[0]:
        return
    classes = sorted({parts[-1] for parts in folders})
    if len(classes) < 2 or {PARTS.get(name.lower(), name.lower()) for name in classes} <= {"train", "valid", "test"}:
        return
    place = {name: c for c, name in enumerate(classes)}
    labels.names = tuple(classes)
    labels.values = np.array([place[parts[-1]] for parts in folders])
