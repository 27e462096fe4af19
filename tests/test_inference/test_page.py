import json
import shutil
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from mmlocalmamba.inference.page import Demo, build_page


@pytest.mark.parametrize('task', ['detection', 'segmentation', 'classification'])
def test_a_picture_gives_an_overlay_a_table_and_scan_paths(predictor_of, photo, task) -> None:
    demo = Demo(predictor_of(task))

    overlay, rows = demo.predict(photo, 0.0)
    paths = demo.scan_paths(photo, len(demo.directions) - 1)

    assert overlay.shape == photo.shape
    assert not np.array_equal(overlay, photo)
    assert rows
    assert all(name in demo.predictor.trained.classes and 0 <= value <= 1 for name, value in rows)
    assert [value for _, value in rows] == sorted((value for _, value in rows), reverse=True)
    assert paths.ndim == 3
    assert paths.dtype == np.uint8


def test_without_gradio_it_says_what_to_install(predictor_of, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'gradio', None)

    with pytest.raises(ModuleNotFoundError, match='pip install gradio'):
        build_page(Demo(predictor_of('classification')))


@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_the_page_asks_for_what_the_task_needs(predictor_of, task) -> None:
    pytest.importorskip('gradio', reason='gradio is not installed')

    page = build_page(Demo(predictor_of(task)))

    shown = {block.label: block for block in page.blocks.values() if getattr(block, 'label', None)}
    assert {'Picture', 'Prediction', 'Found', 'Scan paths', 'Block of the backbone'} <= shown.keys()
    assert shown['Lowest score'].visible == (task == 'detection')
    assert not page.analytics_enabled


@pytest.mark.slow
@pytest.mark.skipif(find_spec('selenium') is None, reason='selenium is not installed')
@pytest.mark.skipif(shutil.which('chromedriver') is None, reason='chromedriver is not installed')
def test_a_browser_uploads_a_picture_and_shows_what_was_found(predictor_of, photo, tmp_path) -> None:
    """And asks no other host for anything."""
    pytest.importorskip('gradio', reason='gradio is not installed')
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    cv2.imwrite(str(tmp_path / 'photo.png'), photo)
    page = build_page(Demo(predictor_of('classification')))
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    browser = open_browser(tmp_path / 'profile')
    try:
        browser.get(address)
        wait = WebDriverWait(browser, 120)
        wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, 'input[type=file]'))
        browser.find_element(By.CSS_SELECTOR, 'input[type=file]').send_keys(str(tmp_path / 'photo.png'))
        wait.until(lambda _: loaded_images(browser) == 3)  # the picture, the overlay, the scan paths
        text = wait.until(lambda _: 'owl' in browser.page_source and browser.page_source)
        assert 'LocalVMamba' in text
        assert hosts(browser) == {address.split('/')[2]}
    finally:
        browser.quit()
        page.close()


def open_browser(profile):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for name in (
        'headless', 'no-sandbox', 'disable-gpu', 'disable-quic', 'no-first-run', 'disable-background-networking',
        'disable-component-update', 'disable-sync', f'user-data-dir={profile}',
    ):  # fmt: skip
        options.add_argument(f'--{name}')
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL'})
    service = webdriver.ChromeService(shutil.which('chromedriver'))
    return webdriver.Chrome(options=options, service=service)


def loaded_images(browser) -> int:
    script = "return [...document.querySelectorAll('img')].filter(i => i.complete && i.src.includes('/file=')).length"
    return browser.execute_script(script)


def hosts(browser) -> set[str]:
    """Give the hosts that the page has asked for anything."""
    messages = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    addresses = [
        message['params']['request']['url'] for message in messages if message['method'] == 'Network.requestWillBeSent'
    ]
    return {address.split('/')[2] for address in addresses if address.startswith(('http', 'ws'))}
