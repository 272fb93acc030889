"""The commands that the documentation shows: where they are, how each becomes tiny, and which cannot run in a test."""

import re
import shlex
import sys

from tests.doors import ROOT

# The studies are records of earlier commits: their commands are of those.
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("launch/*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/reference/*.md"),
    ]
)

# What cannot run in a test, and why; its flags are checked. The first pattern that is found in a command counts.
NOT_RUN = {
    r"^bash launch/(gpu\w*|tpu_vm|xpk)\.sh|^sbatch ": "needs GPUs, TPUs or a cluster; tests/launch has stand-ins",
    r"^bash launch/(quickstart|test|docs)\.sh|^bash launch/setup\.sh": "makes .venv; tests/launch has its parts",
    r"^source \.venv/bin/activate$|^(ruff|git) |^python3 -m venv |^\S*pip install ": (
        "sets up an environment, or belongs to another tool"
    ),
    r"^tfds build ": "downloads a data set",
    r"^python -m pytest": "the tests themselves",
    r"^import_diffae ": "needs published PyTorch weights; tests/test_import_diffae.py has a stand-in",
    r"^plan ": "needs libtpu",
    r"^explore (?!.*--export)": "serves a page until it is interrupted; tests/explorer has it in a browser",
    r"\bCATS\b": "needs the cats of AFHQ",
    r"--distributed": "needs several machines; tests/test_multi_host.py has two processes",
    r"--config\.init_from=": "needs imported weights",
    r"--config=(celeba|shapes3d|dsprites|smallnorb|cars3d|mpi3d|(ffhq|horse|bedroom)128|diffae_\w+)\b.*--workdir": (
        "needs a published data set"
    ),
    r"^study\.content_tracking_validity ": "takes minutes; tests/study has it at a small size",
    r"^study\.content_tracking_models |^metrics\.content_tracking_": "needs the results of other runs; see tests/study",
}

# Flags that make a command tiny, in place of the documented values of the same flags.
TINY = {
    "main": "--config.train.steps=2 --config.checkpoint.every_steps=2 --config.train.num_pictures=2 "
    "--config.distillation.listen_steps=0 --config.feedback.swap_steps=1",
    "evaluate": "--seeds=1 --floor_seeds=1 --num_images=400 --num_train=250 --num_test=150 --num_votes=20 "
    "--num_decoded=4 --decode_steps=2,3 --num_tracked=2",
    "edit": "--encode_steps=2 --num_steps=2 --columns=3 --frames=3",
    "navigate": "--steps=2 --batch_size=4 --eval_batches=1 --probe_steps=2 --num_codes=32 --decode_steps=1 --out={new}",
    "latent_prior": "--steps=2 --num_images=32 --batch_size=8 --hidden=8 --num_layers=2",
    "explore": "--export={new} --num_images=1 --num_steps=2",
    "export": "--out={new}",
    "sample": "--num=2 --num_steps=2 --latent_steps=2",
    "tables": "--dry_run",
    "benchmark": "--steps=2 --noparts",
    "describe": "",
}


def commands(text: str) -> list[str]:
    """The commands of a page: the lines of its bash blocks, and code in its sentences that is a command with flags."""
    found = []
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M):
        lines = block.replace("\\\n", " ").splitlines()
        found += [" ".join(re.sub(r"(^|\s)#.*", "", line).split()) for line in lines]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for span in re.findall(r"`([^`]+)`", prose):
        span = " ".join(span.split())
        if re.match(r"(python -m cldis_jax|cldis |bash launch/|tfds build)", span) and " --" in span:
            found.append(span)
    return [command for command in found if command]


def documented() -> dict[str, list[str]]:
    """Each command, and the pages that show it."""
    places = {}
    for page in PAGES:
        for command in commands((ROOT / page).read_text()):
            for part in command.split(" && "):
                places.setdefault(part, []).append(page)
    return places


def normal(command: str) -> str:
    """`DOOR flags` for `cldis DOOR flags`, `python -m cldis_jax.DOOR flags` and the same with a path before python."""
    return re.sub(r"^(\S*/)?(cldis |python -m cldis_jax\.)", "", command)


def reason(command: str) -> str | None:
    """Why a command does not run in a test; None where it does."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, normal(command))), None)


def arguments(command: str) -> list[str]:
    """The words of a command, with the door in the first place."""
    return shlex.split(normal(command))


def tiny(command: str) -> tuple[str, ...]:
    """The words of a documented command at its tiny size, with {photos}, {trained} and {new} for what a test has."""
    door, *words = arguments(command)
    shrunk = TINY[door].split()
    replaced = {word.partition("=")[0] for word in shrunk}
    words = [word for word in words if word.partition("=")[0] not in replaced]
    for i, word in enumerate(words):
        match = re.fullmatch(r"--config=(?:configs/)?(\w+)(?:\.py)?(?::\w+)?(,\w+)?", word)
        if match and door in ("main", "benchmark", "describe"):
            name = match[1] if match[1] in ("folder", "sprites", "beta_vae") else "scenes"
            words[i] = f"--config={name}:tiny{match[2] or ''}"
        elif word.startswith("--workdir="):
            words[i] = "--workdir={new}" if door == "main" else "--workdir={trained}"
        elif word.startswith("--out="):
            words[i] = "--out={new}"
        else:
            words[i] = re.sub("PHOTOS|DIGITS", "{photos}", word.replace("runs/quickstart/", "{trained}/"))
    return (door, *words, *shrunk)


# Parses the flags of a command, and runs nothing.
PARSE_ONLY = """
import runpy, sys
from absl import app
from tests import documented

app.run = documented.parse
del sys.argv[0]
runpy.run_module(f"cldis_jax.{sys.argv[0]}", run_name="__main__", alter_sys=True)
"""


def parse(main, flags_parser) -> None:
    rest = flags_parser(sys.argv)[1:]
    if rest:
        raise SystemExit(f"not flags: {rest}")
