import pytest


@pytest.mark.browser
def test_a_headless_browser_is_found_and_runs_scripts(page):
    page.set_content(
        "<h1 lang='fr'></h1><script>document.querySelector('h1').textContent = 'Gains: ' + (1 + 1)</script>"
    )
    assert page.get_by_role("heading", name="Gains: 2").is_visible()
