"""A page as a headless Chromium shows it, offline: what a phone, a keyboard and a screen reader would stumble over.

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver) besides the selenium of the `test` extra.
"""

import json
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-sync",
    "disable-background-networking",
    "disable-component-update",
)
LEAST_CONTRAST = 4.5  # WCAG 2, level AA


@contextmanager
def browser(profile):
    """A driver with a profile of its own; skips the test where there is no Chromium."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with chromedriver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def look(driver, path, width: int, height: int, dark: bool = False) -> dict:
    """Opens a file in a window of this size and says what is there: `AUDIT`'s findings, requests and console messages."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # those of an earlier page
    driver.get(path.as_uri())
    events = (json.loads(line["message"])["message"] for line in driver.get_log("performance"))
    sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    found = driver.execute_script(AUDIT, LEAST_CONTRAST, width)
    return found | {
        "requests": [url for url in sent if not url.startswith(("data:", path.as_uri()))],
        "console": [line["message"] for line in driver.get_log("browser")],
    }


AUDIT = """
const [least, width] = arguments, root = document.documentElement;
document.querySelectorAll('details').forEach(part => part.open = true);
const numbers = color => color.match(/[0-9.]+/g).map(Number);
const light = color => {
    const [r, g, b] = numbers(color).slice(0, 3).map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
};
const ground = element => {
    for (; element; element = element.parentElement) {
        const color = getComputedStyle(element).backgroundColor, parts = numbers(color);
        if (parts.length < 4 || parts[3] > 0) return color;
    }
    return 'rgb(255, 255, 255)';
};
const contrast = element => {
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), contrasts = [];
for (let node; node = texts.nextNode();)
    if (node.textContent.trim()) contrasts.push([node.textContent.trim(), contrast(node.parentElement)]);
const all = selector => [...document.querySelectorAll(selector)];
const scrolls = element => ['auto', 'scroll'].includes(getComputedStyle(element).overflowX) && element.scrollWidth > element.clientWidth;
return {
    language: root.lang,
    overflow: Math.max(0, root.scrollWidth - width),
    texts: contrasts.length,
    faint: contrasts.filter(([_, ratio]) => ratio < least),
    images: all('img').map(image => [image.alt, image.naturalWidth]),
    headings: all('h1, h2, h3, h4').map(heading => Number(heading.tagName[1])),
    tables: all('table').length,
    headless: all('th:not([scope]), table:not(:has(thead)), tbody tr:not(:has(th[scope=row]))').length,
    scrolling: all('*').filter(scrolls).map(box => [box.tabIndex, box.getAttribute('aria-label') ||
        (document.getElementById(box.getAttribute('aria-labelledby')) || {}).textContent || '']),
};
"""
