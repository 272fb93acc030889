"""The image reader on damaged files of every format that Pillow writes: no crash, no hang, no flood of memory.

`python tests/data/test_fuzz.py COUNT FOLDER` reads damaged files of the seeds 0 to COUNT - 1 and prints what became of
them. It is a process of its own, so that a crash in a decoder is seen and its memory can be measured.
"""

import collections
import faulthandler
import io
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from cldis_jax.data import images
from cldis_jax.data.folder import Folder

MOST_PIXELS = 2**20  # of an image, in this test; Pillow raises an error from twice as many on
MOST_BYTES = 300 * 2**20  # more than before the first image: some copies of the largest image, and the libraries
MOST_SECONDS = 10  # for one image
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 30_000, 2**20)


def whole_files() -> list[tuple[str, bytes]]:
    """(suffix, bytes) of a small picture in every format and mode that Pillow can write."""
    ramp = np.linspace(0, 255, 24 * 20 * 4).astype(np.uint8).reshape(24, 20, 4)
    found, taken = [], set()
    Image.init()
    for suffix, name in sorted(images.suffixes().items()):
        if name not in Image.SAVE or name in taken:
            continue
        taken.add(name)
        for mode in ("RGB", "RGBA", "L", "P", "I;16"):
            image = Image.fromarray(ramp).convert(mode.replace("I;16", "I"))
            exif = Image.Exif()
            exif[0x0112] = 6
            file = io.BytesIO()
            try:
                image.convert(mode).save(file, name, **({"exif": exif} if name in ("JPEG", "PNG", "WEBP") else {}))
            except (OSError, ValueError, KeyError):
                continue  # the format has no such mode
            found.append((suffix, file.getvalue()))
    return found


def damaged(whole: list[tuple[str, bytes]], seed: int) -> tuple[str, bytes]:
    """(suffix, bytes) of one file with some damage, most of it in the header."""
    rng = np.random.default_rng(seed)
    suffix, content = whole[rng.integers(len(whole))]
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        end = max(len(content), 1)
        place = int(rng.integers(min(end, 128) if rng.random() < 0.8 else end))
        kind = rng.choice(5, p=(0.3, 0.35, 0.1, 0.15, 0.1))
        if kind == 0:
            content[place : place + 1] = rng.bytes(1)
        elif kind == 1:
            width = int(rng.choice([1, 2, 4]))
            number = int(rng.choice(EXTREMES)) % 256**width
            content[place : place + width] = number.to_bytes(width, str(rng.choice(["big", "little"])))
        elif kind == 2:
            del content[place : None if rng.random() < 0.5 else place + int(rng.integers(1, 16))]
        elif kind == 3:
            content[place:place] = rng.bytes(int(rng.integers(1, 16)))
        else:
            other = whole[rng.integers(len(whole))][1]
            content[place:] = other[place:]
    return suffix, bytes(content)


def peak_memory() -> int:
    """The most bytes of memory that this process has had; 0 where the system does not tell."""
    status = pathlib.Path("/proc/self/status")  # not getrusage: its peak begins with that of the parent process
    return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 if status.exists() else 0


def main(count: int, folder: pathlib.Path) -> None:
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    whole = whole_files()
    for i, (suffix, content) in enumerate(whole):
        (folder / f"whole{i}{suffix}").write_bytes(content)
        images.read(folder / f"whole{i}{suffix}", 16)
    before = peak_memory()
    errors, slowest = collections.Counter(), 0.0
    for seed in range(count):
        suffix, content = damaged(whole, seed)
        file = folder / f"seed{seed}{suffix}"
        file.write_bytes(content)
        print(file.name, file=sys.stderr)  # the last line names a file that crashes or hangs
        faulthandler.dump_traceback_later(6 * MOST_SECONDS, exit=True)
        started = time.monotonic()
        try:
            pixels, _ = images.read(file, 16)
            assert pixels.shape == (16, 16, 3)
            assert pixels.dtype == np.uint8
        except Exception as error:
            errors[type(error).__name__] += 1
        slowest = max(slowest, time.monotonic() - started)
        faulthandler.cancel_dump_traceback_later()
    memory = peak_memory() - before
    source = Folder(str(folder), 16)
    broken = source.describe(0)[0]
    print(
        json.dumps(
            {
                "cases": count,
                "formats": len({suffix for suffix, _ in whole}),
                "errors": errors,
                "read": count - errors.total(),
                "usable": len(source) - len(whole),
                "said": broken,
                "slowest": slowest,
                "memory": memory,
            }
        )
    )


@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_named(tmp_path, count):
    done = subprocess.run([sys.executable, __file__, str(count), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(found)
    assert found["formats"] >= 8
    assert found["read"] > 0.1 * count
    assert found["errors"]
    assert "MemoryError" not in found["errors"]
    assert found["usable"] == found["read"]  # what a run reads is what one file reads
    assert f"{count - found['read']:,} broken (seed" in found["said"]
    assert found["slowest"] < MOST_SECONDS
    assert found["memory"] < MOST_BYTES


if __name__ == "__main__":
    main(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
