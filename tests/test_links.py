"""Every link in the documentation leads somewhere."""

import re

import pytest

from .commands import ROOT

PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])


def anchors(page):
    """The headings of a page, as GitHub links to them."""
    titles = re.findall(r'^#+ (.*)', page.read_text(), re.MULTILINE)
    plain = (re.sub(r'[^\w -]', '', title.lower()) for title in titles)
    return {title.replace(' ', '-') for title in plain}


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links(page):
    """Of templates as well, from the folder in which they stand."""
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if link.startswith(('http', '$')):  # $ is filled in
            continue
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
