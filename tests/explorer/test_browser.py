"""The page and the exported file in a real browser: an upload, a slider, every tab, no error in the console."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from cldis_jax import api
from cldis_jax.runtime import report, visualize
from tests import browser, doors

pytestmark = pytest.mark.slow

SET = """
const input = document.querySelector(arguments[0]);
input.value = arguments[1];
input.dispatchEvent(new Event('input', {bubbles: true}));
"""
RELEASE = "document.querySelector(arguments[0]).dispatchEvent(new PointerEvent('pointerup', {bubbles: true}))"


@pytest.fixture(scope="module")
def workdir(untrained_workdir, tmp_path_factory):
    """A workdir with a model, scores, scalars and a picture."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").symlink_to(f"{untrained_workdir}/checkpoints")
    shares = {"wall_hue": [0.01 * k for k in range(9)] + [0.9], "scale": [0.02] * 10}
    scores = {"mig": {"mean": 0.5, "std": 0.1, "floors": {"untrained": 0.2}}, "details": {"information_shares": shares}}
    report.write_json(folder / "evaluate.json", {"mig": scores, "settings": {"latent": "z_sem", "step": 3}})
    rows = [{"step": step, "L_diff": 1 / step, "vae/capacity": step, "vae/kl": step} for step in range(1, 9)]
    (folder / "scalars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (1, 2):
        visualize.save_png(folder / f"pictures/traversals_z_sem_{step:08d}.png", np.full((9, 9, 3), step, np.uint8))
    return folder


@pytest.fixture(scope="module")
def served(workdir):
    """The address of the page of a tiny model, compared with itself."""
    pytest.importorskip("gradio", reason="pip install 'cldis_jax[explore]'")
    from cldis_jax.explorer import serving
    from cldis_jax.explorer.model import explored

    with browser.opened():  # skips before anything is compiled, where there is no browser
        pass
    model = explored(api.load(str(workdir)), num_images=4)
    blocks = serving.serve(model, model, block=False)
    yield blocks.local_url
    blocks.close()


@pytest.fixture
def page(served):
    with browser.opened() as opened:
        opened.get(served)
        browser.wait(lambda: source(opened, "after"), "the first picture")
        yield opened


def find(page, selector):
    return page.find_elements("css selector", selector)


def source(page, name):
    """The picture of the tab Edit whose caption starts with `name`."""
    return page.execute_script(
        "return document.querySelector(`#edited img[data-name^=${arguments[0]}]`)?.src || ''", name
    )


def click(page, selector):
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def press(page, selector):
    """A click of the mouse, which a cell of a table waits for."""
    (target,) = browser.wait(lambda: find(page, selector), selector)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", target)
    target.click()


def open_tab(page, name):
    (tab,) = (tab for tab in find(page, "button[role=tab]") if tab.get_attribute("textContent").strip() == name)
    page.execute_script("arguments[0].click()", tab)


def test_a_slider_changes_the_picture(page):
    first, slider = source(page, "after"), "#axis-9 input[type=range]"
    page.execute_script(SET, slider, 2.5)
    browser.wait(lambda: source(page, "after") != first, "the picture of a moving slider")
    page.execute_script(RELEASE, slider)
    command = "return document.querySelector('#command textarea').value"
    browser.wait(lambda: "--set=9=+2.5" in page.execute_script(command), "the command")
    assert source(page, "before") != source(page, "after")
    click(page, "#reset")
    browser.wait(lambda: source(page, "before") == source(page, "after"), "the reset")
    click(page, "#random input")
    browser.wait(lambda: source(page, "before") != first, "a random x_T")
    assert browser.errors(page) == []


def test_an_upload_and_a_bad_one(page, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / "own.tiff")
    (tmp_path / "bad.png").write_bytes(b"no image")
    first = source(page, "image")
    (field,) = find(page, "#own input[type=file]")
    field.send_keys(str(tmp_path / "bad.png"))
    text = "return document.body.innerText"
    browser.wait(lambda: "can't be read as an image" in page.execute_script(text), "a sentence")
    assert "Traceback" not in page.execute_script(text)
    assert source(page, "image") == first
    page.refresh()
    browser.wait(lambda: source(page, "image"), "the page again")
    (field,) = find(page, "#own input[type=file]")
    field.send_keys(str(tmp_path / "own.tiff"))
    browser.wait(lambda: source(page, "image") not in ("", first), "the uploaded image")


def test_two_visitors_do_not_see_each_others_images(page, served):
    first = source(page, "image")
    with browser.opened() as other:
        other.get(served)
        browser.wait(lambda: source(other, "image"), "the second visitor's picture")
        other.execute_script(
            "document.querySelectorAll('#gallery button.thumbnail-lg, #gallery .thumbnail-item')[2].click()"
        )
        browser.wait(lambda: source(other, "image") != first, "the second visitor's choice")
        page.execute_script(SET, "#axis-9 input[type=range]", -1.0)
        browser.wait(lambda: source(page, "after") != source(page, "before"), "the first visitor's edit")
        assert source(page, "image") == first


def test_no_other_file_is_served(served, workdir):
    for file in (doors.ROOT / "setup.cfg", workdir / "evaluate.json", "/etc/hostname"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{served}gradio_api/file={file}")
        assert refused.value.code in (403, 404)


def test_every_tab(page):
    steps = {
        "Traverse": [("#traverse", "#traversals td img"), ("#animate", "#traversals .cldis-wide img")],
        "Samples and neighbours": [("#sample", "#samples img"), ("#near", "#neighbours img")],
        "Understand": [("#matrix [data-testid='cell-9-1']", "#moved td img")],
        "The run": [],
        "Compare": [("#compare", "#compared-1 td img")],
    }
    tabs = [tab.get_attribute("textContent").strip() for tab in find(page, "button[role=tab]")]
    assert tabs == ["Edit", *steps]
    for tab, presses in steps.items():
        open_tab(page, tab)
        for button, shown in presses:
            press(page, button)
            browser.wait(lambda shown=shown: find(page, shown), f"{tab}: {shown}")
    tiles = find(page, "#traversals td img")
    assert not tiles  # the animation took their place
    drawn = "return document.querySelector('#drawn img').src"
    last = page.execute_script(drawn)
    page.execute_script(SET, "#place input[type=range]", 1)
    browser.wait(lambda: page.execute_script(drawn) != last, "the earlier picture of the training")
    assert "unit 9: wall hue" in find(page, "#axis-9")[0].get_attribute("textContent")
    assert browser.errors(page) == []


@pytest.mark.parametrize("size", [browser.WIDE, browser.NARROW])
def test_the_exported_file(untrained_workdir, tmp_path, size):
    file = tmp_path / "page.html"
    words = [f"--workdir={untrained_workdir}", f"--export={file}", "--num_images=2", "--num_steps=2"]
    done = doors.run("explore", *words)
    assert done.returncode == 0, done.stderr
    pixels = "return document.getElementById(arguments[0]).toDataURL()"
    with browser.opened(size) as page:
        page.get(file.as_uri())
        browser.wait(lambda: find(page, "#grid canvas"), "the grid")
        assert page.execute_script(pixels, "after") == page.execute_script(pixels, "before")
        page.execute_script(SET, "#unit-0", 10)
        assert page.execute_script(pixels, "after") != page.execute_script(pixels, "before")
        assert "+2.5 std" in find(page, "#what")[0].text
        before = page.execute_script(pixels, "before")
        find(page, "#choose button")[1].click()
        browser.wait(lambda: page.execute_script(pixels, "before") != before, "the other image")
        click(page, "#reset")
        assert page.execute_script(pixels, "after") == page.execute_script(pixels, "before")
        assert browser.errors(page) == []
        assert page.execute_script("return performance.getEntriesByType('resource').map(r => r.name)") == []
        assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
