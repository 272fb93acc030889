"""The model card: README.md with the front matter that the Hugging Face Hub reads."""

from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from cldis_jax import api
from cldis_jax.evaluation import tables
from cldis_jax.runtime import report


class Terms(NamedTuple):
    """The terms of a data set: the hub's name of the licence, and a sentence."""

    licence: str
    sentence: str


RENDERED = Terms("apache-2.0", "The images are rendered by cldis_jax; they have no terms but those of the package.")
TERMS = {  # data.source and data.name -> terms; where we could not read them, who states them
    ("scenes", ""): RENDERED,
    ("sprites", ""): RENDERED,
    ("tfds", "celeb_a"): Terms("other", "CelebA may be used for non-commercial research only."),
    ("tfds", "shapes3d"): Terms("other", "The terms of 3D Shapes are those of github.com/google-deepmind/3d-shapes."),
    ("tfds", "dsprites"): Terms(
        "other", "The terms of dSprites are those of github.com/google-deepmind/dsprites-dataset."
    ),
    ("tfds", "smallnorb"): Terms(
        "other", "The terms of smallNORB are those of its authors, at cs.nyu.edu/~ylclab/data/norb-v1.0-small."
    ),
    ("cars3d", ""): Terms(
        "other", 'Cars3D was published with Reed et al. 2015, "Deep Visual Analogy-Making"; ask its authors.'
    ),
}
MPI3D = Terms("cc-by-4.0", "MPI3D is published under CC BY 4.0 (github.com/rr-learning/disentanglement_dataset).")
UNKNOWN = Terms("other", "Before publishing this, say here whose images these are and what they allow.")
NAMES = {
    "reconstructions": "Images, and each way to reconstruct them",
    "traversals_z_sem": "One image; each row changes one unit of z_sem",
    "traversals_z_disen": "One image; each row changes one unit of z_disen",
}


def terms(data: ConfigDict) -> Terms:
    """The terms of the images that a config trains on."""
    return MPI3D if data.source == "mpi3d" else TERMS.get((data.source, data.name), UNKNOWN)


def text(bundle: api.Bundle, folder: epath.Path, num_parameters: dict[str, int]) -> str:
    """The model card of an exported folder, with the pictures and scores that it holds."""
    data, found = bundle.config.data, terms(bundle.config.data)
    what = {"z_sem": "a diffusion autoencoder", "z_disen": "a β-VAE"}
    networks = " and ".join(words for latent, words in what.items() if bundle.has(latent))
    parts = [_front_matter(found)]
    parts.append(
        f"# {folder.name}\n\nCL-Dis ([arXiv 2402.02346](https://arxiv.org/abs/2402.02346)), trained with cldis_jax: "
        f"{networks} with a code of {bundle.config.model.latent_dim} numbers, for images of {data.image_size} x "
        f"{data.image_size} pixels with {data.channels} channel{'s' * (data.channels > 1)}. Step {bundle.step:,}. "
        f"This is an independent implementation, not the paper's model."
    )
    parts += [f"![{words}]({file})\n\n{words}." for words, file in _pictures(folder)]
    parts.append(
        "## Use\n\n```python\nfrom cldis_jax.api import load\n\n"
        f'bundle = load("{folder.name}")\n'
        "z = bundle.encode(images)  # [B, H, W, C] in [-1, 1] -> [B, d]\n```\n\n"
        f"```bash\npython -m cldis_jax.explore --workdir={folder.name}\n"
        f"python -m cldis_jax.edit --workdir={folder.name} --images=PHOTOS --out=edited --traverse=all\n```"
        if bundle.has_diffusion
        else f"## Use\n\n```bash\npython -m cldis_jax.explore --workdir={folder.name}\n```"
    )
    if (folder / "evaluate.json").exists():
        results = report.read_json(folder / "evaluate.json")
        settings = results.pop("settings", {})
        parts.append(
            f"## Scores\n\nOf {settings.get('latent', '')}, step {settings.get('step', '')}; a floor is what a code "
            "that disentangles nothing gets."
        )
        for title, header, lines in tables.each(results):
            parts.append((f"### {title}\n\n" if title else "") + tables.markdown(header, lines))
    parameters = ", ".join(f"{name} {number:,}" for name, number in num_parameters.items())
    parts.append(
        f"## Files\n\n`model.safetensors`: the moving averages of the parameters ({parameters}) and the moments of the "
        "codes. `config.json`: every setting of the training. There is no optimiser state."
    )
    named = f" ({data.name})" if data.name else ""
    parts.append(f"## Data and terms\n\nTrained on `{data.source}`{named}. {found.sentence}")
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _front_matter(found: Terms) -> str:
    tags = "".join(f"- {tag}\n" for tag in ("jax", "flax", "disentanglement", "diffusion-autoencoder", "cl-dis"))
    name = "license_name: terms-of-the-data\n" if found.licence == "other" else ""
    return f"---\nlibrary_name: cldis_jax\nlicense: {found.licence}\n{name}tags:\n{tags}---"


def _pictures(folder: epath.Path) -> list[tuple[str, str]]:
    """(what it shows, path) of the pictures to show first."""
    found = []
    for name, words in NAMES.items():
        files = sorted((folder / "pictures").glob(f"{name}_*.png")) if (folder / "pictures").exists() else []
        found += [(words, f"pictures/{file.name}") for file in files]
    return found
