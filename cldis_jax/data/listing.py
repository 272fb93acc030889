"""The images of a folder or a zip file: which there are, what is skipped and why, and their bytes."""

import collections
import dataclasses
import functools
import io
import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from cldis_jax.data.images import suffixes
from cldis_jax.data.source import DataError

SYSTEM_NAMES = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "#recycle", "lost+found")
SYSTEM_FILES = ("Thumbs.db", "desktop.ini")
LABEL_FILES = (
    *("attributes.csv", "attributes.tsv", "list_attr_celeba.txt", "list_attr_celeba.csv"),
    *("list_eval_partition.txt", "list_eval_partition.csv"),
)
RUN = ({"config.json"}, {"checkpoints"})  # a folder with these files and folders is a workdir
RUN_FOLDERS = ("checkpoints", "damaged", "navigation", "pictures", "samples")  # of a workdir that is the root itself
RESULTS = ("edit.json",)  # a folder with one of these files holds pictures that a command has made
NAMED = 5  # this many names of a kind are shown, the others are counted
MOST_BYTES = 2**30  # of a file in a zip, unpacked

HIDDEN, OTHER, BROKEN, MADE = "hidden", "not images", "broken", "made by cldis_jax"
LINKED, CLOSED, MISSING = "folders linked twice", "unreadable folders", "links to nothing"


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files by their names below the root, "/" between folders, sorted folder by folder."""

    root: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]  # bytes
    stamps: tuple[int, ...]  # modification times in ns; CRC in a zip
    skipped: dict[str, list[str]]  # names by reason
    tables: tuple[str, ...]  # names of the label files
    open: Callable[[str], Path | io.BytesIO] = dataclasses.field(repr=False)  # what Pillow reads, by name

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int]) -> "Listing":
        """A part of the images."""
        part = {field: tuple(getattr(self, field)[i] for i in indices) for field in ("names", "sizes", "stamps")}
        return dataclasses.replace(self, **part)


def find(path: str) -> Listing:
    """The images below a folder or in a zip file.

    Hidden files and folders, those of operating systems, and what commands of this project wrote are skipped. Linked
    folders are followed, each folder once.

    Raises:
      DataError: `path` is neither a folder nor a zip file.
    """
    root = Path(path).expanduser()
    found = _Found()
    if path and root.is_dir():
        _walk(root, found)
        opened = root.joinpath
    elif path and root.is_file():
        opened = _Zip(root, found).open
    else:
        raise DataError(f"data.path={path!r} is not a directory or a zip file; give the one that holds your images")
    files = sorted(found.images, key=lambda file: file[0].replace("/", "\0"))  # as by its folders, and faster
    names, sizes, stamps = zip(*files) if files else ((), (), ())
    return Listing(root, names, sizes, stamps, dict(found.skipped), tuple(found.tables), opened)


def some(names: Sequence[str]) -> str:
    """The first names, and dots for the others."""
    return ", ".join(map(str, names[:NAMED])) + (", ..." if len(names) > NAMED else "")


def describe(skipped: dict[str, Sequence[str]]) -> str:
    """How many files are skipped, by reason: "4 skipped: 3 hidden, 1 broken (a.png)"; nothing for none."""
    parts = []
    for reason, names in skipped.items():
        if reason == OTHER:
            kinds = collections.Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in names)
            detail = f" ({some([f'{kind} {count}' for kind, count in kinds.most_common()])})"
        else:
            detail = "" if reason == HIDDEN else f" ({some(names)})"
        parts += [f"{len(names):,} {reason}{detail}"] if names else []
    return f"{sum(map(len, skipped.values())):,} skipped: {', '.join(parts)}" if parts else ""


class _Found:
    """What a walk gathers."""

    def __init__(self):
        self.images: list[tuple[str, int, int]] = []
        self.skipped = collections.defaultdict(list)
        self.tables: list[str] = []
        self._suffixes = suffixes()

    def file(self, name: str, size: int, stamp: int) -> None:
        last = name.rpartition("/")[2]
        if not last.startswith(".") and f".{last.rpartition('.')[2].lower()}" in self._suffixes:
            self.images.append((name, size, stamp))
        elif _hidden(last) or last in SYSTEM_FILES:
            self.skipped[HIDDEN].append(name)
        elif last in LABEL_FILES:
            self.tables.append(name)
        else:
            self.skipped[OTHER].append(name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM_NAMES


def _made_folders(names: Iterable[str]) -> Iterator[str]:
    """The folders of a zip, with "/" at their ends, for which `_made_here` holds."""
    names, marks = list(names), (*RUN[0], *RESULTS)
    inside = collections.defaultdict(set)
    for name in names:
        if name.endswith(marks):
            folder, _, last = name.rpartition("/")
            inside[folder] |= {last} & {*marks}
    for folder, files in inside.items():
        folders = {part for part in RUN[1] if any(name.startswith(f"{folder}/{part}/") for name in names)}
        if folder and _made_here(files, folders):
            yield f"{folder}/"


def _made_here(files: set[str], folders: set[str]) -> bool:
    return (files >= RUN[0] and folders >= RUN[1]) or not files.isdisjoint(RESULTS)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _walk(root: Path, found: _Found) -> None:
    """Real folders first, so that a folder is named by its own path and not by a link to it."""
    pending, links, seen = [""], [], set()
    while pending or links:
        prefix = pending.pop() if pending else links.pop(0)
        folder = root / prefix
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                found.skipped[LINKED].append(prefix)
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if not prefix:
                raise DataError(f"data.path={str(root)!r} can't be read: {error}") from error
            found.skipped[CLOSED].append(prefix)
            continue
        folders = {entry.name for entry in entries if _is_folder(entry)}
        made = _made_here({entry.name for entry in entries} - folders, folders)
        if made and prefix:
            found.skipped[MADE].append(prefix)
            continue
        for entry in entries:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.name in folders:
                if _hidden(entry.name):
                    found.skipped[HIDDEN].append(name)
                elif made and entry.name in RUN_FOLDERS:
                    found.skipped[MADE].append(name)
                else:
                    (links if entry.is_symlink() else pending).append(name)
                continue
            try:
                status = entry.stat()
            except OSError:
                found.skipped[MISSING].append(name)
                continue
            if entry.is_file():
                found.file(name, status.st_size, status.st_mtime_ns)
            else:  # a pipe or a socket, which would wait for ever
                found.skipped[OTHER].append(name)


class _Zip:
    """The files in a zip file, which several threads may read."""

    def __init__(self, path: Path, found: _Found):
        try:
            # A file object of our own stays open whatever ZipFile counts.
            self._archive = zipfile.ZipFile(path.open("rb"))
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"data.path={str(path)!r} is not a folder, and can't be read as zip: {error}") from error
        self._lock = threading.Lock()  # of opening and closing; ZipFile itself locks reading
        members = {name: member for name, member in self._archive.NameToInfo.items() if not name.endswith("/")}
        made = tuple(_made_folders(members))
        hidden = functools.cache(lambda folder: any(map(_hidden, folder.split("/"))))
        for name, member in members.items():
            if name.startswith(made):
                found.skipped[MADE].append(name)
            elif hidden(name.rpartition("/")[0]):
                found.skipped[HIDDEN].append(name)
            else:
                found.file(name, member.file_size, member.CRC)

    def open(self, name: str) -> io.BytesIO:
        if (size := self._archive.getinfo(name).file_size) > MOST_BYTES:
            raise DataError(f"{size / 2**30:.1f} GiB unpacked, at most {MOST_BYTES / 2**30:.0f} are read")
        with self._lock:
            member = self._archive.open(name)
        try:
            return io.BytesIO(member.read())
        finally:
            with self._lock:
                member.close()
