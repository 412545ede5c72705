"""The report's page: whole, safe with hostile data, the same figures as the JSON."""

import copy
import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from recloop.evaluation import write_report
from recloop.evaluation.page import leaves, page, table, warnings

EVIL = '<script>alert("x")</script>"\'&$x_$ <img src=x onerror=y>'
VOID = {"meta", "br", "img", "link", "input"}


def figures(word: str = "plain") -> dict[str, Any]:
    names = ("policy", "random", "most_popular", "myopic")
    value = {
        name: {
            "value": 4.0 - i,
            "low": 3.5 - i,
            "high": 4.5 - i,
            "requests": 9.0,
            "clicks": 3.0,
            "purchases": 1.0,
        }
        for i, name in enumerate(names)
    }
    row = {"by": "device", "people": 120, "policy": 1.0, "rival": 2.0, "difference": -1.0, "low": -1.5,
           "high": -0.5, "p": 0.001}  # fmt: skip
    return {
        "policy": word,
        "algorithm": word,
        "people": 2000,
        "user_model": value,
        "lift": {name: {"difference": 1.0, "low": 0.5, "high": 1.5} for name in names[1:]},
        "rival": "random",
        "slices_lost": 1,
        "slices": [
            row | {"value": word, "loses": True},
            row | {"value": "tv", "loses": False, "low": None, "high": None, "p": None, "people": 1},
        ],
        "off_policy": {
            "policy": {
                "dr": {"outcome": "no-data", "why": f"too few {word}", "rows": 3},
                "chosen": {"outcome": "ok", "value": 0.25, "low": 0.2, "high": 0.3, "of": {"method": word}},
            }
        },
        "ranking": {"policy": {"ndcg": 0.125, "people": 10, "coverage": None}},
        "ranking_later": {"policy": {"ndcg": 0.0625}},
        "ranking_later_leaks": ["3 of 9 training rows are not before the split"],
        "samples": [{"history": [word], "slate": [word, "B"]}],
    }


class Tags(HTMLParser):
    """Collects every tag, and fails where they do not close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


def test_hostile_words_are_shown_and_do_nothing() -> None:
    hostile, plain = (parsed(page(figures(word), [(0.0, 1.0), (10.0, 2.0)])) for word in (EVIL, "plain"))
    assert not {tag for tag, _ in hostile.seen} & {"script", "img", "iframe", "object", "link"}
    assert not any(name.startswith("on") for _, attributes in hostile.seen for name in attributes)
    assert [tag for tag, _ in hostile.seen if tag not in ("text", "g", "use", "defs", "path")] == [
        tag for tag, _ in plain.seen if tag not in ("text", "g", "use", "defs", "path")
    ]
    assert EVIL in hostile.text  # the title, as it is


def test_nothing_is_loaded_from_elsewhere_and_it_fits_a_phone() -> None:
    text = page(figures(), [(0.0, 1.0)])
    tags = parsed(text)
    assert not any(
        (value or "").startswith(("http", "//", "data:"))
        for tag, attributes in tags.seen
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href")
    )
    assert "@import" not in text
    assert ("meta", {"name": "viewport", "content": "width=device-width,initial-scale=1"}) in tags.seen
    assert "prefers-color-scheme:dark" in text
    drawn = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawn) == 3  # values, slices, learning curve
    for one in drawn:
        root = ElementTree.fromstring(one)
        assert "width" not in root.attrib  # so that it shrinks with the page
        assert "currentColor" in one
        assert "#010203" not in one


def test_the_page_says_what_the_figures_say() -> None:
    shown = parsed(page(figures(), [])).text
    for part in (
        "0.125",
        "0.0625",
        "too few plain",
        "No estimate by",
        "0.25",
        "3 of 9 training rows",
        "-1.00 against",
    ):
        assert part in shown, part
    assert "Learning curve" not in shown
    calm = figures() | {"slices": [figures()["slices"][1]]}
    assert warnings(calm) == []
    assert "No baseline is better" in parsed(page(calm, [])).text
    worse = copy.deepcopy(calm)
    worse["lift"]["myopic"] = {"difference": -2.0, "low": -3.0, "high": -1.0}
    assert warnings(worse) == ["worse than myopic by 2.00 a session"]


def test_the_worst_comes_first_and_nothing_is_left_out() -> None:
    row = figures()["slices"][0]
    many = [
        row | {"value": f"kind {n}", "difference": -n, "low": -n - 1.0, "high": 1.0 - n, "p": 10.0**-n}
        for n in range(3, 13)
    ]
    given = figures() | {"slices": many, "lift": {"myopic": {"difference": -2.0, "low": -3.0, "high": -1.0}}}
    said = warnings(given)
    assert said[0] == "worse than myopic by 2.00 a session"
    assert [text.split(" (")[0] for text in said[1:]] == [f"device kind {n}" for n in range(12, 2, -1)]
    assert "p < 0.001 after" in said[1]
    assert "p = 0.001 after" in said[-1]
    text = page(given, [])
    shown, _, hidden = text.partition("<details>")
    assert said[5].replace("<", "&lt;") in shown
    assert "5 more" in hidden
    for one in said[6:]:
        assert one.replace("<", "&lt;") in hidden


def test_slices_that_lose_and_those_of_too_few_people_stand_out() -> None:
    rows = re.findall(r"<tr[^>]*><td>device</td>.*?</tr>", page(figures(), []))
    assert [row.startswith('<tr class="bad">') for row in rows] == [True, False]
    assert rows[1].startswith('<tr class="soft">')
    assert rows[1].endswith("<td>too few</td></tr>")


def test_one_reason_is_given_once_for_all_that_it_refuses() -> None:
    given = figures()
    given["off_policy"]["policy"] |= {
        "ips": {"outcome": "no-data", "why": "too few plain", "rows": 3},
        "snips": {"outcome": "no-data", "why": "no overlap", "rows": 3},
        "diagnostics": {"outcome": "ok", "overlap": 0.5},
    }
    text = page(given, [])
    assert "<li>dr, ips: too few plain</li><li>snips: no overlap</li>" in text
    assert text.count("too few plain") == 1
    assert "diagnostics" in text


def test_numbers_of_a_column_have_as_many_decimals() -> None:
    text = table([{"a": 11.0, "n": 238.0, "p": 1e-9}, {"a": 0.1234, "n": 2.0, "p": 0.25}])
    for part in ("11.00", "0.12", "238", "2", "&lt; 0.001", "0.250"):
        assert f"<td>{part}</td>" in text, part


def test_any_shape_of_estimates_becomes_rows() -> None:
    tree = {"a": {"x": 1, "deep": {"y": 2.5}}, "b": {"z": "text"}, "loose": 3}
    assert leaves(tree) == [
        ("all", {"loose": 3}),
        ("a", {"x": 1}),
        ("a deep", {"y": 2.5}),
        ("b", {"z": "text"}),
    ]
    text = table([{"n": 1234567, "v": 0.000123456, "none": None, "yes": True, "list": ["a", 1]}])
    for part in ("1,234,567", "0.0001235", "–", "yes", "a; 1"):
        assert f"<td>{part}</td>" in text, part


def test_the_files_hold_the_same_figures(tmp_path: Path) -> None:
    curve = tmp_path / "learning_curve.csv"
    curve.write_text("env_steps,mean_return\n0,1.0\n100,2.5\n")
    for folder in ("one", "two"):
        write_report(figures(EVIL), tmp_path / folder, curve)
    for file in ("evaluation.html", "evaluation.json", "evaluation.png", "value.csv", "slices.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    with (tmp_path / "one" / "slices.csv").open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["slice"] for row in rows] == [f"device: {EVIL}", "device: tv"]
    assert float(rows[0]["difference"]) == pytest.approx(-1)
    assert "Learning curve" in (tmp_path / "one" / "evaluation.html").read_text(encoding="utf-8")
