"""Pages in one file: nothing that others chose is read as HTML, and nothing is loaded from anywhere."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from cnnhw import web


class Read(HTMLParser):
    """Notes what a browser would find: tags with their attributes, and the text of each."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self.stack = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.stack.append(dict(attrs).get("id", tag))

    def handle_data(self, data):
        if self.stack:
            self.texts[self.stack[-1]] = self.texts.get(self.stack[-1], "") + data

    def handle_endtag(self, tag):
        self.stack.append("")


def test_data_and_title_cannot_end_their_element():
    evil = "</script><script>alert(1)</script></title><!--"
    read = Read(web.page(evil, "<main></main>", data={"name": evil, "café": 1}))
    assert [tag for tag, _ in read.found].count("script") == 1
    assert json.loads(read.texts["data"]) == {"name": evil, "café": 1}
    assert read.texts["title"] == evil


def test_the_policy_forbids_all_that_is_loaded():
    read = Read(web.page("t", "<main></main>"))
    (policy,) = [attrs["content"] for tag, attrs in read.found if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert [attrs for _, attrs in read.found if attrs.get("src") or attrs.get("href")] == []
