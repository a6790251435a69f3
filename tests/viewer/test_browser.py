"""The page in a real browser: what a person does, and the pixels on the screen."""

import io
import os
import shutil
from importlib.resources import files

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import assert_same, random_array

AXE = files(pytest.importorskip("axe_core_python")) / "axe.min.js"
selenium = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

pytestmark = pytest.mark.slow
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
RED, GREEN = range(2)
PATIENCE = 100
"""Seconds until a browser that does not answer is given up: its processes may wait for a CPU."""
OPTIONS = (
    "--headless=new", "--window-size=1200,800", "--force-device-scale-factor=1", "--force-prefers-reduced-motion",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",  # it ends when its driver does
    "--ipc-connection-timeout=600",  # processes that wait 15 s for a CPU would give up, and the page wait for them
    "--in-process-gpu", "--enable-features=NetworkServiceInProcess2", "--disable-extensions",  # fewer of them
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a screen, where it and its driver are installed (Debian: chromium, chromium-driver)."""
    program, driver = next(filter(None, map(shutil.which, PROGRAMS)), None), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("Chromium or its driver is not installed")
    options = selenium.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    alone = f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"
    for option in (*OPTIONS, alone, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(option)
    found = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    found.set_script_timeout(PATIENCE)
    found.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    yield found
    found.quit()


class Page:
    """What a person sees of the viewer, and does with it."""

    def __init__(self, browser, viewer):
        self.browser = browser
        browser.get(viewer.url)
        self.rest()

    def rest(self):
        """Wait until there is a picture, nothing more is to come, and everything is drawn."""
        self.browser.execute_async_script("""
            const done = arguments[0];
            const frame = () => new Promise(requestAnimationFrame);
            const busy = () => document.getElementById("panes").getAttribute("aria-busy") !== "false"
                || !performance.getEntriesByName("first-picture").length;
            (async () => {
                do for (let k = 0; k < 3; k++) await frame(); while (busy());
                done();
            })();
        """)

    def run(self, script):
        return self.browser.execute_script(script)

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector):
        self.find(selector).click()
        self.rest()

    def press(self, keys):
        self.run("document.activeElement.blur()")
        self.find("body").send_keys(keys)
        self.rest()

    def select(self, selector, value):
        Select(self.find(selector)).select_by_value(value)
        self.rest()

    def choose(self, name):
        """Show an item of the list."""
        self.find(f"[role=option][title='{name}']").click()
        self.rest()

    def image(self, pane=0):
        """The pixels of a pane on the screen without its caption and borders, axes (y, x, rgb)."""
        png = self.browser.find_elements(By.CSS_SELECTOR, ".pane")[pane].screenshot_as_png
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[60:-20, 20:-20]

    def place(self, pane=0):
        """x, y and scale of the image in the pane."""
        found = self.run(f"return panes[{pane}].place")
        return found["x"], found["y"], found["scale"]

    def shows(self, native, pane=0):
        """Check that the pane shows pixels of the image (c, y, x), at a whole magnification; return what it shows."""
        left, top, scale = self.place(pane)
        shown = self.image(pane)
        rows, columns = (
            np.floor((np.arange(n) + 0.5 + border - start) / scale).astype(int)
            for n, border, start in zip(shown.shape[:2], (60, 20), (top, left), strict=True)
        )
        height, width = native.shape[-2:]
        pixels = native[:, np.clip(rows, 0, height - 1)][..., np.clip(columns, 0, width - 1)]
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        assert inside.any()
        assert_same(shown[inside], np.moveaxis(pixels, 0, -1)[inside])
        return shown

    def called(self, names):
        """What the copied call returns."""
        self.run("document.getElementById('status').textContent = ''")
        self.click("#copy")
        text, said = self.browser.execute_async_script("""
            const done = arguments[0], status = document.getElementById("status");
            const wait = async () => {
                if (!status.textContent) return setTimeout(wait, 5);
                status.className = "";  // it covers the image
                done([await navigator.clipboard.readText(), status.textContent]);
            };
            wait();
        """)
        assert (text, said) == (self.find("#call").text, "Copied")
        return eval(text, names)


@pytest.fixture
def page(browser, viewer):
    found = Page(browser, viewer)
    yield found
    assert browser.get_log("browser") == []


def test_zoom_channels_annotations_and_the_copied_call(page, sampler):
    page.choose("photo.png")
    assert "photo.png" in page.browser.title
    native = sampler.open(1).read()

    page.press("at1")  # without annotations and targets
    assert page.place()[2] == pytest.approx(1)
    page.shows(native)
    page.press("++")
    assert page.place()[2] == pytest.approx(4)
    page.shows(native)

    page.press("1")
    page.click("#channels .channel:nth-child(1) input[type=checkbox]")
    dark = native.copy()
    dark[RED] = 0
    page.shows(dark)
    limit = page.find("#channels .channel:nth-child(2) .limits input[type=number]")  # black of green
    limit.send_keys(Keys.CONTROL, "a")
    limit.send_keys("100", Keys.ENTER)
    page.rest()
    dark[GREEN] = np.rint(np.clip((native[GREEN].astype(float) - 100) * 255 / 155, 0, 255))
    before = page.shows(dark)

    loaded = page.called({"sampler": sampler})
    left, top, _ = page.place()
    height, width = page.run(
        "const { clientHeight, clientWidth } = panes[0].element; return [clientHeight, clientWidth]"
    )
    y, x = (slice(max(0, -round(n)), min(end, -round(n) + m)) for n, end, m in ((top, 601, height), (left, 830, width)))
    assert_same(loaded.image.values, native[1:, y, x])
    assert loaded.annot_id.values.tolist() == [1, 2]

    page.press("a")
    drawn = (page.image() != before).any(axis=-1)
    assert drawn.any()
    page.click("#classes label:nth-child(1) input")  # cat
    assert 0 < (page.image() != before).any(axis=-1).sum() < drawn.sum()
    page.press("a")
    assert_same(page.image(), before)
    page.press("t")
    both = (page.image() != before).any(axis=-1).sum()
    page.click("#kinds label:nth-child(1) input")  # negative
    assert 0 < (page.image() != before).any(axis=-1).sum() < both


def test_frames_and_what_is_under_a_click(page, sampler):
    assert page.find("#title").text == "<b>clip</b>"  # as it is written
    assert page.find("#time-name").text.startswith("1 / 2")
    page.press("at")
    page.click("#full")
    first = page.image()
    page.press(".")
    assert page.find("#time-name").text.startswith("2 / 2")
    assert (page.image() != first).mean() > 0.3
    assert page.called({"sampler": sampler}).gid.values.tolist() == [3]
    page.press("a")
    x, y, scale = page.place()
    pane = page.find(".pane")
    at = selenium.ActionChains(page.browser)
    rectangle = pane.rect
    at.move_to_element_with_offset(
        pane, round(x + 40.5 * scale - rectangle["width"] / 2), round(y + 50.5 * scale - rectangle["height"] / 2)
    ).click().perform()
    page.rest()
    assert "dog" in page.find("#selected").text
    assert page.find("#pointer").text.startswith("x 40 y 50 red ")


def test_levels_side_by_side_move_together(page, sampler):
    page.choose("photo.png")
    page.press("at")
    page.select("#beside", "same")
    page.click("#which label:nth-child(2)")
    page.select("#level", "1")
    page.press("1")
    assert page.place(0) == page.place(1)
    native, coarse = sampler.open(1).read(), sampler.open(1).read(1)
    page.shows(native, 0)
    page.shows(np.repeat(np.repeat(coarse, 2, 1), 2, 2)[:, :601, :830], 1)
    page.select("#beside", "")
    assert len(page.browser.find_elements(By.CSS_SELECTOR, ".pane")) == 1


def test_the_page_loads_little_and_from_this_machine_alone(page, viewer, record_property):
    loaded = page.run("""return performance.getEntriesByType("resource").map(
        ({ name, encodedBodySize, responseStatus }) => [name, encodedBodySize, responseStatus])""")
    assert all(name.startswith(viewer.url) for name, _, _ in loaded)
    assert {status for _, _, status in loaded} == {200}
    sizes = {name: size for name, size, _ in loaded}  # where a CPU is waited for, the same is asked again
    assert len(sizes) < 16  # five files of the page, the list, the image, what is drawn on it, a tile for each level
    assert sum(sizes.values()) < 600_000
    record_property("first picture, ms", page.run("return performance.getEntriesByName('first-picture')[0].startTime"))


def test_nothing_hinders_a_screen_reader_and_everything_is_reached_by_keyboard(page):
    page.choose("photo.png")
    page.run(AXE.read_text())
    found = page.browser.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > 20
    assert not found["violations"], [(v["id"], v["help"], v["nodes"][0]["html"]) for v in found["violations"]]
    page.run("""
        document.activeElement.blur();
        window.reached = [];
        document.addEventListener("focusin", ({ target }) => reached.push(target.outerHTML));
    """)
    selenium.ActionChains(page.browser).send_keys(Keys.TAB * 60).perform()
    reached = " ".join(page.run("return reached"))
    for name in ('id="copy"', 'id="fit"', 'id="beside"', "openseadragon-canvas", 'id="items"', 'type="color"'):
        assert name in reached, name
    page.press("?")
    assert page.find("#shortcuts").is_displayed()


def test_a_prediction_is_shown_beside_the_image(browser, sampler, tmp_path):
    heat = ndzarr.transcode(sampler.open(1).read(1), tmp_path / "heat.zarr")
    with ndzarr.Sampler({"photo": sampler.open(1)}).view(beside=heat, browser=False) as viewer:
        page = Page(browser, viewer)
        captions = [caption.text.split(" ")[0] for caption in browser.find_elements(By.CSS_SELECTOR, ".caption")]
        assert captions == ["photo", "heat.zarr"]
        ours, other = page.image(0).astype(float), page.image(1).astype(float)
        assert np.abs(ours - other).mean() < 12  # the same picture, from half as many pixels
        assert browser.get_log("browser") == []


def test_images_of_one_place_are_shown_at_the_same_place(browser, tmp_path):
    utm = (1024, 3, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    photo = {"photometric": "rgb", "tile": (64, 64)}
    for name, side, metres, left, top in (("image", 300, 10, 500000, 6000000), ("heat", 100, 20, 500500, 5999000)):
        tags = [(33550, 12, 3, (metres, metres, 0)), (33922, 12, 6, (0, 0, 0, left, top, 0)), (34735, 3, 16, utm)]
        tifffile.imwrite(tmp_path / f"{name}.tif", random_array((side, side, 3), "u1"), **photo, extratags=tags)
    with ndzarr.Sampler([tmp_path / "image.tif"]).view(beside=tmp_path / "heat.tif", browser=False) as viewer:
        page = Page(browser, viewer)
        page.press("1")
        (x, y, scale), (left, top, other) = page.place(0), page.place(1)
        assert other == pytest.approx(2 * scale, rel=0.01)  # panes may differ by a pixel in width
        assert (left, top) == pytest.approx((x + 50 * scale, y + 100 * scale), abs=2)
        page.run("panes[1].osd.viewport.panBy(new OpenSeadragon.Point(0.1, 0), true)")
        page.rest()
        assert page.place(0)[0] == pytest.approx(page.place(1)[0] - 50 * scale, abs=2)
        assert page.place(0)[0] == pytest.approx(x - 20 * scale, abs=2)
        assert browser.get_log("browser") == []
