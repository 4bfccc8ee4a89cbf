import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from examples import page


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "path", "circle", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "circle"):
            assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag]


CHART = page.Chart(
    title="lips <&>",
    series=[page.Series("generated", [0.0, 0.5, 1.0], [0.1, float("nan"), 0.3])],
    x_label="seconds",
    y_label="opening",
)


def with_curve(x, y) -> page.Chart:
    return dataclasses.replace(CHART, series=[page.Series("r", x, y)])


@pytest.fixture
def tags() -> Tags:
    clip = page.Clip("clips/own speech.mp4", 'a "held-out" face', "r = 0.7", "clips/own.png")
    strips = [([clip], CHART)]
    section = page.Section("Lips", "x < y", strips, [CHART], [(clip, CHART)])
    hero = page.Clip("clips/portrait.png", "the picture")
    return Tags(page.render("Demo", "made here", hero, [section]))


def test_page_is_well_formed_and_whole(tags):
    assert tags.open == []
    assert len(tags.of("video")) == 2 and len(tags.of("svg")) == 3 and tags.of("h2")
    assert [image["src"] for image in tags.of("img")] == ["clips/portrait.png"]


def test_clips_are_beside_the_page_and_play_without_a_script(tags):
    for video in tags.of("video"):
        assert video["src"] == "clips/own speech.mp4" and video["poster"] == "clips/own.png"
        assert "controls" in video and "muted" not in video


def test_nothing_is_fetched(tags):
    text = page.render("Demo", "", None, [])
    assert "http" not in text and "@import" not in text and "url(" not in text
    assert not [attrs for _, attrs in tags.found if "://" in (attrs.get("src") or "")]


def test_only_a_chart_paired_with_a_clip_follows_it(tags):
    heads = [attrs for attrs in tags.of("path") if attrs.get("class") == "head"]
    assert len(heads) == 1
    assert float(heads[0]["data-per-second"] or 0) == page.WIDE - page.LEFT - page.RIGHT


def test_curves_stay_inside_and_gaps_interrupt_them():
    x = np.linspace(0, 1.4, 33)
    y = np.sin(9 * x)
    y[10:12] = np.nan
    text = page.chart(with_curve(x, y))
    (path,) = re.findall(r'class="curve s0" d="([^"]+)"', text)
    assert path.count("M") == 2 and path.count("L") == 33 - 2 - 2
    points = np.array([p.split() for p in re.split("[ML]", path)[1:]], float)
    assert (points[:, 0] >= page.LEFT).all() and (points[:, 0] <= page.NARROW - page.RIGHT).all()
    assert (points[:, 1] >= page.TOP).all() and (points[:, 1] <= page.HEIGHT - page.BOTTOM).all()


@pytest.mark.parametrize("values", [[0.0, 0.0], [float("nan")] * 2, [1e-7, 3e-7], [-5.0, 1e6]])
def test_any_range_of_values_can_be_drawn(values):
    text = page.chart(with_curve([0.0, 1.0], values))
    assert "nan" not in text and "inf" not in text
    Tags(text)


def test_verdicts_of_the_numbers_are_shown():
    row = {"meaning": "a < b", "value": 0.5, "low": 0.4, "high": 0.6, "target": ">= 0.4"}
    text = page.numbers_table(
        {
            "good": row | {"met": True},
            "bad": row | {"met": False},
            "aside": row | {"met": None, "low": None, "target": None},
        }
    )
    assert text.count(">met<") == 1 and text.count(">missed<") == 1 and "a &lt; b" in text
    assert "unknown" in text
