"""The page in Chromium: no errors, no sideways scrolling, keyboard, contrast, accessibility."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from torch import Tensor, nn

import haq
from haq.reporting.page.write import write_report

PHONE, DESKTOP = (360, 740), (1200, 900)


def found(*names: str) -> str:
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no {names[0]}; the distribution's packages chromium and chromium-driver have it")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = found("chromium", "chromium-browser", "google-chrome")
    profile = tmp_path_factory.mktemp("profile")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found("chromedriver")))
    driver.command_executor.client_config.timeout = 600  # no test fails because the machine is slow
    driver.set_script_timeout(600)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run, and of one of which little is known."""
    other = tmp_path_factory.mktemp("other")
    for name in ("config.json", "policy.json", "summary.json"):
        shutil.copy(finished_run / name, other / name)
    return write_report([finished_run, other], other / "page.html", devices=["gpu-t4"]).as_uri()


class Block(nn.Module):
    """A layer with a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = x + self.conv(x)
        return shifted


class Deep(nn.Module):
    """53 layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*(Block() for _ in range(52)))
        self.classifier = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return scores


@pytest.fixture(scope="module")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of two runs on a network of 53 layers."""
    folder = tmp_path_factory.mktemp("large")
    runs = [folder / f"bismo-edge-at-half-of-the-latency-seed-{seed}" for seed in range(2)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        network, images = Deep(), torch.rand(24, 16, 8, 8)
        items = list(zip(images, network(images).argmax(dim=1).tolist(), strict=True))
    settings: dict[str, Any] = {"agent": "random", "prior": "none", "corrections": "none", "engine": "torch"}
    settings["rounding"] = "nearest"
    with patch("haq.reporting.plots.draw_missing", lambda _: None):
        task = {"calibration": items, "search": items, "report": items}
        haq.search(network, task, out=runs[0], budget=0.5, episodes=2, **settings)
    shutil.copytree(runs[0], runs[1])
    return write_report(runs, folder / "page.html", devices=["gpu-t4"]).as_uri()


def show(browser: WebDriver, page: str, size: tuple[int, int], *, theme: str = "light") -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
    browser.get(page)


def run(browser: WebDriver, script: str) -> Any:
    return browser.execute_script(f"return {script}")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_nothing_fails_and_the_page_does_not_scroll_sideways(
    browser: WebDriver, page: str, size: tuple[int, int]
) -> None:
    show(browser, page, size)
    assert run(browser, "document.documentElement.scrollWidth") <= size[0]
    assert run(browser, "document.querySelectorAll('.picker:not([hidden])').length") == 2
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_in_both_themes(browser: WebDriver, page: str, theme: str) -> None:
    show(browser, page, DESKTOP, theme=theme)
    violations = Axe().run(browser)["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []
    assert (
        run(browser, "getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(244, 245, 247)",
            "dark": "rgb(16, 19, 23)",
        }[theme]
    )


def test_the_page_of_two_runs_of_53_layers_is_accessible_and_fits_a_phone(browser: WebDriver, large_page: str) -> None:
    show(browser, large_page, PHONE, theme="dark")
    assert run(browser, "document.documentElement.scrollWidth") <= PHONE[0]
    assert run(browser, "document.querySelectorAll('.layers tbody tr').length") == 2 * 53
    violations = Axe().run(browser)["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_layers_are_shown_by_keyboard_and_by_pointing(browser: WebDriver, page: str) -> None:
    show(browser, page, DESKTOP)
    policy = browser.find_element(By.CSS_SELECTOR, ".policy")
    picked, slider = policy.find_element(By.CSS_SELECTOR, ".picked"), policy.find_element(By.TAG_NAME, "input")
    first = picked.text
    assert first.startswith("stem.0")
    assert "Pinned to 8 bits" in first
    for _ in range(100):  # the slider is reached by the tabulator
        if browser.switch_to.active_element == slider:
            break
        browser.switch_to.active_element.send_keys(Keys.TAB)
    slider.send_keys(Keys.ARROW_RIGHT)
    second = picked.text
    assert slider.get_attribute("aria-valuetext") == second.splitlines()[0] != first.splitlines()[0]
    marked = policy.find_elements(By.CSS_SELECTOR, ".on")
    assert [each.get_attribute("data-layer") for each in marked] == ["1"] * 3
    bar = policy.find_element(By.CSS_SELECTOR, ".bar[data-layer='4']")
    webdriver.ActionChains(browser).move_to_element(bar).perform()
    name = policy.find_element(By.CSS_SELECTOR, "tr[data-layer='4'] th").text.splitlines()[0]
    assert picked.text.startswith(name)


def test_columns_sort(browser: WebDriver, page: str) -> None:
    show(browser, page, DESKTOP)
    heading = browser.find_element(By.XPATH, "//th[button[text()='share']]")
    shares = "[...document.querySelector('.layers tbody').rows].map(row => parseFloat(row.cells[5].textContent))"
    for order in ("ascending", "descending"):
        heading.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        assert heading.get_attribute("aria-sort") == order
        assert run(browser, shares) == sorted(run(browser, shares), reverse=order == "descending")


def test_the_page_is_complete_without_javascript(browser: WebDriver, page: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, page, DESKTOP)
        policy = browser.find_element(By.CSS_SELECTOR, ".policy")
        assert not policy.find_element(By.CSS_SELECTOR, ".picker").is_displayed()
        assert "Pinned to 8 bits" in policy.find_element(By.CSS_SELECTOR, ".why").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_page_is_printed_light_and_with_all_settings(browser: WebDriver, page: str) -> None:
    show(browser, page, DESKTOP, theme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert run(browser, "getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert run(browser, "document.querySelector('details table').getBoundingClientRect().height") > 0
    assert run(browser, "getComputedStyle(document.querySelector('.layers')).maxHeight") == "none"
    assert run(browser, "document.documentElement.scrollWidth") <= DESKTOP[0]
