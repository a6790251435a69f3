"""The page in a real browser: what a person does, and the pixels on the screen."""

import io
import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

import ndzarr
from helpers.arrays import assert_same

selenium = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("NDZARR_BROWSER"), reason="drives a browser; set NDZARR_BROWSER"),
]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
RED, GREEN, BLUE = range(3)


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
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    for option in ("--headless=new", "--window-size=1200,800", "--force-device-scale-factor=1", alone, *root):
        options.add_argument(option)
    options.add_argument("--disable-dev-shm-usage")
    options.add_argument("--force-prefers-reduced-motion")
    found = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    found.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    yield found
    found.quit()  # it draws all the time, on a CPU where there is no GPU


class Page:
    """What a person sees of the viewer, and does with it."""

    def __init__(self, browser, viewer):
        self.browser = browser
        browser.get(viewer.url)
        self.wait(lambda: browser.execute_script("return performance.getEntriesByName('first-picture').length"))
        self.rest()

    def wait(self, condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, self.browser.get_log("browser")
            time.sleep(0.02)

    def rest(self):
        """Wait until nothing is loaded, and everything is drawn."""
        self.browser.execute_async_script(
            "const done = arguments[0]; setTimeout(() => requestAnimationFrame(done), 250)"
        )
        self.wait(lambda: self.find("#panes").get_attribute("aria-busy") == "false")
        self.browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        )

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector):
        self.find(selector).click()
        self.rest()

    def press(self, keys):
        self.browser.execute_script("document.activeElement.blur()")
        self.find("body").send_keys(keys)
        self.rest()

    def choose(self, name):
        """Show an item of the list."""
        next(o for o in self.browser.find_elements(By.CSS_SELECTOR, "[role=option]") if o.text == name).click()
        self.rest()

    def pixels(self, pane=0):
        """The pixels of a pane on the screen, axes (y, x, rgb)."""
        png = self.browser.find_elements(By.CSS_SELECTOR, ".pane")[pane].screenshot_as_png
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def image(self, pane=0):
        """The part of the pane without its caption and borders."""
        return self.pixels(pane)[60:-20, 20:-20]

    def place(self, pane=0):
        """x, y and scale of the image in the pane."""
        found = self.browser.execute_script(f"return panes[{pane}].place")
        return found["x"], found["y"], found["scale"]

    def called(self, names):
        """What the copied call returns."""
        self.click("#copy")
        text = self.browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        assert text == self.find("#call").text
        assert self.find("#status").text == "Copied"
        self.browser.execute_script("document.getElementById('status').className = ''")  # which covers the image
        return eval(text, names)


@pytest.fixture
def page(browser, viewer):
    found = Page(browser, viewer)
    yield found
    assert browser.get_log("browser") == []


def expected(pyramid_pixels, page, pane=0):
    """Native pixels (c, y, x) as the pane has to show them where `Page.image` looks, at a whole magnification."""
    left, top, scale = page.place(pane)
    screen = page.pixels(pane).shape
    rows, columns = (
        np.floor((np.arange(n) + 0.5 - start) / scale).astype(int)
        for n, start in zip(screen[:2], (top, left), strict=True)
    )
    height, width = pyramid_pixels.shape[-2:]
    shown = np.moveaxis(pyramid_pixels[:, np.clip(rows, 0, height - 1)][..., np.clip(columns, 0, width - 1)], 0, -1)
    outside = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))[None]
    shown = np.where(outside[..., None], page.pixels(pane), shown)  # whatever is behind the image
    return shown[60:-20, 20:-20]


def test_zoom_channels_annotations_and_the_copied_call(page, sampler):
    page.choose("photo.png")
    assert "photo.png" in page.browser.title
    native = sampler.open(1).read()

    page.press("at")  # without annotations and targets
    page.press("1")
    assert page.place()[2] == pytest.approx(1)
    assert_same(page.image(), expected(native, page))
    page.press("++")
    assert page.place()[2] == pytest.approx(4)
    assert_same(page.image(), expected(native, page))

    page.press("1")
    page.click("#channels .channel:nth-child(1) input[type=checkbox]")
    dark = native.copy()
    dark[RED] = 0
    assert_same(page.image(), expected(dark, page))
    limit = page.find("#channels .channel:nth-child(2) .limits input[type=number]")  # black of green
    limit.send_keys(Keys.CONTROL, "a")
    limit.send_keys("100", Keys.ENTER)
    page.rest()
    dark[GREEN] = np.rint(np.clip((native[GREEN].astype(float) - 100) * 255 / 155, 0, 255))
    assert_same(page.image(), expected(dark, page))

    loaded = page.called({"sampler": sampler})
    left, top, _ = page.place()
    height, width = page.pixels().shape[:2]
    y, x = (slice(max(0, -round(n)), min(end, -round(n) + m)) for n, end, m in ((top, 601, height), (left, 830, width)))
    assert_same(loaded.image.values, native[1:, y, x])
    assert loaded.annot_id.values.tolist() == [1, 2]

    before = page.image()
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
    Select(page.find("#beside")).select_by_value("same")
    page.rest()
    page.find("#which label:nth-child(2)").click()
    Select(page.find("#level")).select_by_value("1")
    page.rest()
    page.press("1")
    assert page.place(0) == page.place(1)
    native, coarse = sampler.open(1).read(), sampler.open(1).read(1)
    assert_same(page.image(0), expected(native, page, 0))
    twice = np.repeat(np.repeat(coarse, 2, 1), 2, 2)[:, :601, :830]
    assert_same(page.image(1), expected(twice, page, 1))
    Select(page.find("#beside")).select_by_value("")
    page.rest()
    assert len(page.browser.find_elements(By.CSS_SELECTOR, ".pane")) == 1


def test_everything_has_a_name_and_is_reached_by_keyboard(page):
    page.choose("photo.png")
    for control in page.browser.find_elements(By.CSS_SELECTOR, "button, input, select, [tabindex='0']"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    page.browser.execute_script("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        selenium.ActionChains(page.browser).send_keys(Keys.TAB).perform()
        reached.add(page.browser.switch_to.active_element.get_attribute("outerHTML"))
    text = " ".join(reached)
    for name in ('id="copy"', 'id="fit"', 'id="beside"', "openseadragon-canvas", 'id="items"', 'type="color"'):
        assert name in text, name
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
