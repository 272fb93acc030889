"""Labels beside pictures: a table of attributes, CelebA's own files, or a folder for each class."""

import csv
import dataclasses
import functools
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from cldis_jax.data.listing import LABEL_FILES, Listing, some
from cldis_jax.data.source import DataError

ATTRIBUTES = tuple(name for name in LABEL_FILES if "partition" not in name)
PARTITION = tuple(name for name in LABEL_FILES if "partition" in name)
PART_COLUMNS = ("partition", "split")  # of a table of attributes
PARTS = {"0": "train", "1": "valid", "2": "test", "training": "train", "val": "valid", "validation": "valid"}
OTHER = 255  # a cell with another value


class _Values(dict):
    def __missing__(self, cell: str) -> int:
        return OTHER


VALUES = _Values({"1": 1, "+1": 1, "1.0": 1, "True": 1, "true": 1, "TRUE": 1})
VALUES |= {"0": 0, "-1": 0, "0.0": 0, "-1.0": 0, "False": 0, "false": 0, "FALSE": 0}
# Also a table that is damaged in its zip file, or locked by a password (RuntimeError).
UNREADABLE = (csv.Error, ValueError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)
SISTERS = ("Anno", "Eval")  # folders of CelebA as it is published


@dataclasses.dataclass
class Labels:
    """Binary attributes of every image, or the number of its class, and the part of the set that it belongs to."""

    names: tuple[str, ...] = ()
    values: np.ndarray | None = None  # uint8 [N, A], OTHER for an image without a row; or the classes int64 [N]
    parts: list[str] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)  # lines for the user

    def known(self, indices: np.ndarray) -> np.ndarray:
        """Which images have labels, bool [B]."""
        if self.values is None or self.values.ndim == 1:
            return np.full(len(indices), self.values is not None)
        return self.values[indices, 0] != OTHER

    def of(self, indices: np.ndarray) -> np.ndarray:
        """Attributes int64 0 or 1 [B, A]; a class is one attribute of several.

        Raises:
          ValueError: an image has none.
        """
        if self.values is None:
            return np.zeros((len(indices), 0), np.int64)
        if not self.known(indices).all():
            raise ValueError("an image without labels has no attributes; leave out those that are not `labelled`")
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
        found = _file(listing, wanted)
        if found is None:
            continue
        file, read = found
        try:
            _add(labels, listing, file, read().decode("utf-8-sig", "replace"))
        except UNREADABLE as error:
            labels.notes.append(f"{file} can't be read as labels: {error}")
    if labels.values is None and labels.parts is None:
        _classes(labels, listing)
    return labels


def choose(listing: Listing, labels: Labels, split: str, field: str = "data.split") -> np.ndarray:
    """Indices of the part of the images that the config's `field` names: a folder, or a part in the file of partitions.

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
        raise DataError(f"{field}={split!r} is no part of {listing.root}: {there}")
    return np.array(chosen)


def _file(listing: Listing, wanted: Sequence[str]) -> tuple[str, Callable[[], bytes]] | None:
    """The first file of these names, and how to read it: inside, beside, or in the published folders of CelebA."""
    inside = sorted((name for name in listing.tables if name.rpartition("/")[2] in wanted), key=lambda n: n.count("/"))
    if inside:
        return inside[0], functools.partial(_read, listing, inside[0])
    root = listing.root.absolute()
    beside = [root.parent, *(folder / sister for folder in (root.parent, root.parent.parent) for sister in SISTERS)]
    for name in wanted:
        for folder in beside:
            if (folder / name).is_file():
                return str(folder / name), (folder / name).read_bytes
    return None


def _read(listing: Listing, name: str) -> bytes:
    content = listing.open(name)
    return content.read_bytes() if isinstance(content, Path) else content.read()


def _add(labels: Labels, listing: Listing, file: str, text: str) -> None:
    columns, names, cells = _table(file, text)
    position = _positions(listing)
    known: dict[int, int] = {}  # the row of an image
    double, unknown, broken = [], [], []
    for row, name in enumerate(names):
        i = position(name)
        if i is None:
            unknown.append(name)
        elif i in known:
            double.append(name)
        elif len(cells[row]) != len(columns):
            broken.append(name)
        else:
            known[i] = row
    if not known:
        labels.notes.append(f"{file} names none of the images")
        return
    kept = [c for c, column in enumerate(columns) if column.lower() not in PART_COLUMNS]
    unlabelled = "metrics of labels leave them out" if kept else "they are in no part of the set"
    missing = [listing.names[i] for i in range(len(listing)) if i not in known]
    kinds = (
        (missing, f"images have no row, and {unlabelled}"),
        (double, "rows are double, and the first counts"),
        (broken, "rows have another number of cells"),
        (unknown, "rows name no image"),
    )
    if problems := [f"{len(names):,} {what} ({some(names)})" for names, what in kinds if names]:
        labels.notes.append(f"{file}: {'; '.join(problems)}")

    for c, column in enumerate(columns):
        if column.lower() in PART_COLUMNS:
            named = {i: str(cells[row][c]).lower() for i, row in known.items()}
            part_of = {i: PARTS.get(name, name) for i, name in named.items()}
            labels.parts = [part_of.get(i, "") for i in range(len(listing))]
    if not kept:
        return
    if isinstance(cells, np.ndarray):
        read = cells[list(known.values())]
    else:
        read = np.array([[VALUES[cell] for cell in cells[row]] for row in known.values()], np.uint8)
    usable = (read != OTHER).all(axis=0)
    others = [columns[c] for c in kept if not usable[c]]
    kept = [c for c in kept if usable[c]]
    if others:
        labels.notes.append(f"{file}: left out, because they have other values than 0, 1 and -1: {some(others)}")
    if kept:
        labels.names = tuple(columns[c] for c in kept)
        labels.values = np.full((len(listing), len(kept)), OTHER, np.uint8)
        labels.values[list(known)] = read[:, kept]


def _table(file: str, text: str) -> tuple[list[str], list[str], list[list[str]] | np.ndarray]:
    """Columns after the first; the names of the images; the cells after them, as text or if all are binary uint8."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("it is empty")
    if file.endswith(".txt"):  # as CelebA is published
        if "partition" in file.rpartition("/")[2]:
            return ["partition"], *_split(map(str.split, lines))
        if len(lines) < 2:
            raise ValueError("its second line must name the attributes")
        columns, lines = lines[1].split(), lines[2:]  # after the number of images
        return columns, *(_binary(lines, " ", len(columns)) or _split(map(str.split, lines)))
    delimiter = "\t" if file.endswith(".tsv") else max(",;\t", key=lines[0].count)
    form = {"delimiter": delimiter, "skipinitialspace": True}
    columns = [column.strip() for column in next(csv.reader(lines[:1], **form))]
    if len(columns) < 2:
        raise ValueError("its first line must name the columns: the image's, then the attributes'")
    if all(cell in VALUES for cell in columns[1:]):
        raise ValueError("its first line must name the columns, and it holds values")
    return columns[1:], *(_binary(lines[1:], delimiter, len(columns) - 1) or _split(csv.reader(lines[1:], **form)))


def _split(rows: Iterable[list[str]]) -> tuple[list[str], list[list[str]]]:
    names, cells = [], []
    for name, *others in rows:
        names.append(name)
        cells.append(others)
    return names, cells


def _binary(lines: Sequence[str], delimiter: str, num: int) -> tuple[list[str], np.ndarray] | None:
    """Names and cells uint8 [N, num] of rows as plain as `a.png,1,-1,0`; None if one of them is not.

    A table may have millions of cells: this makes no Python object of a cell.
    """
    parts = [line.partition(delimiter) for line in lines]
    text = "\n".join(rest.strip() for _, _, rest in parts).replace("-1", "0").replace("  ", " ") + "\n"
    found = np.frombuffer(text.encode(), np.uint8)
    if any('"' in name for name, _, _ in parts) or found.size != len(lines) * num * 2 or not len(found):
        return None
    found = found.reshape(len(lines), num, 2)
    ends = np.frombuffer((delimiter * (num - 1) + "\n").encode(), np.uint8)
    if ((found[..., 0] | 1) == ord("1")).all() and (found[..., 1] == ends).all():
        return [name.strip() for name, _, _ in parts], found[..., 0] & 1
    return None


def _positions(listing: Listing):
    """A function from a name in a table to the index of its image, or None.

    Names count from the root. The root's own name before them, another suffix, or no folder at all are accepted where
    one image alone can be meant.
    """
    full = {name: i for i, name in enumerate(listing.names)}

    @functools.cache
    def loose():
        found: dict[str, int | None] = {}
        for i, name in enumerate(listing.names):
            stem, last = name.rpartition(".")[0], name.rpartition("/")[2]
            for other in {stem, last, last.rpartition(".")[0]} - {name}:
                found[other] = None if other in found else i
        return found

    def position(name):
        if (exact := full.get(name)) is not None:
            return exact
        name = name.replace("\\", "/").removeprefix("./").removeprefix(f"{listing.root.name}/")
        for found in (full.get(name), loose().get(name), loose().get(name.rpartition(".")[0])):
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
    """Each folder is a class, if there are several, all at one depth, and they aren't parts of the set.

    Two classes are one attribute: a second one would be its opposite, and TAD counts neither of two such attributes.
    """
    folders = [name.split("/")[:-1] for name in listing.names]
    if not folders or len({len(parts) for parts in folders}) > 1 or not folders[0]:
        return
    classes = sorted({parts[-1] for parts in folders})
    if len(classes) < 2 or {PARTS.get(name.lower(), name.lower()) for name in classes} <= {"train", "valid", "test"}:
        return
    place = {name: c for c, name in enumerate(classes)}
    values = np.array([place[parts[-1]] for parts in folders])
    pair = len(classes) == 2
    labels.names, labels.values = (tuple(classes[1:]), values[:, None]) if pair else (tuple(classes), values)
