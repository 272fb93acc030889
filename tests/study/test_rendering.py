"""Rendering: reasons for missing numbers, and LaTeX."""

import csv
import io

from cldis_jax.study import collecting, rendering
from tests.study.fabricated import fabricate, make, only, row


def test_missing_and_failed_cells_are_shown(tmp_path):
    table = only(make(seeds=3), "diffae_adagn", "beta_vae", "cldis_adagn")
    for cell in table.cells:
        scores = {"dci/disentanglement": 0.5}
        if cell.method == "diffae_adagn":
            status = "failed" if cell.seed == 1 else "done"
            fabricate(cell, tmp_path, {"z_sem": scores}, status, "step 3: loss=nan")
        elif cell.method == "beta_vae":
            fabricate(cell, tmp_path, {}, "no data", "data.path='' is not a file")
    collected = collecting.collect(table, tmp_path)
    assert row(collected, "Diff-AE alone, AdaGN", "z_sem").seeds == "2 of 3 (failed)"
    assert row(collected, "Diff-AE alone, AdaGN", "z_sem").scores["dci/disentanglement"].by_seed.keys() == {"0", "2"}
    text = rendering.to_markdown(collected)
    assert "| β-VAE alone, β = 4 | z_disen | no data | no data | no data | no data |" in text
    assert "| CL-Dis, AdaGN | z_sem | not run |" in text
    assert "failed: scenes/diffae_adagn/seed1: step 3: loss=nan" in text
    assert "no data: scenes/beta_vae/seed0 and 2 more: data.path='' is not a file" in text
    lines = list(csv.DictReader(io.StringIO(rendering.to_csv(collected))))
    assert {line["seeds"] for line in lines if line["method"] == "β-VAE alone, β = 4"} == {"no data"}


def test_celeba_without_weights_shows_the_reason(tmp_path):
    table = only(make("celeba", seeds=1), "cldis_cross_attention", dataset="celeba")
    (cell,) = table.cells
    scores = {"tad/tad": 0.3, "reconstruction/ssim, inferred x_T, T=100": 0.9}
    vae = {"tad/tad": 0.1, "reconstruction/ssim, VAE": 0.7}
    fabricate(cell, tmp_path, {"z_sem": scores, "z_disen": vae})
    collected = collecting.collect(table, tmp_path)
    lines = rendering.lines(collected, collected.sections[0].rows)
    assert lines[0][2:11] == ("0.300", *["-"] * 5, "no weights", "0.900", "no weights")
    assert lines[1][9] == "0.700"
    published = next(line for line in lines if line[0] == "DisDiff (published)")
    assert (published[2], published[4], published[8]) == ("0.305 ± 0.010", "-", "18.2 ± 2.1")


def test_latex_escapes_and_is_a_booktabs_table(tmp_path):
    assert rendering.latex("50 % of a_b & β ± {x}\\") == r"50 \% of a\_b \& $\beta$ $\pm$ \{x\}\textbackslash{}"
    text = rendering.to_latex(collecting.collect(make(seeds=1), tmp_path))
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{llcccc}"
    assert body[-1] == r"\end{tabular}"
    for line in body:
        if " & " in line:
            assert line.count(" & ") == 5
            assert line.endswith(r" \\")
    assert not set("±β_") & set(text.replace(r"\_", "").split("\\begin")[1])
