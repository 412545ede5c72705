"""The report as one HTML file: no script, nothing loaded from elsewhere, readable on a phone, light and dark.

Whatever comes from data (titles, categories, devices) passes ``html.escape``.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recloop.evaluation import charts
from recloop.evaluation.charts import as_svg, label, places

AT_ONCE = 6  # warnings that are seen at once
WORDY = 24  # letters above which a column is text
LEAST_P = 0.001  # below which the size of a p value says nothing more
STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d5d9de;--soft:#5d6770;--bad:#b03a00;
--box:#f4f6f8}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7ea;--paper:#14171a;--rule:#3a4047;--soft:#9aa4ad;--bad:#ff9a66;
--box:#1d2226}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.5rem;margin:.2rem 0;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2rem 0 .4rem;border-top:1px solid var(--rule);
padding-top:.8rem}h3{font-size:1rem;margin:1.2rem 0 .3rem}summary{cursor:pointer}
p,li{max-width:45rem}.soft{color:var(--soft)}.bad{color:var(--bad);font-weight:600}
.note{background:var(--box);border-left:4px solid var(--rule);padding:.5rem .8rem;margin:.6rem 0}
.note.warn{border-color:var(--bad)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;margin:.4rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}.text{text-align:left;white-space:normal;min-width:14rem}
tr.bad{color:var(--bad)}tr.bad td{font-weight:600}tr.soft{color:var(--soft)}
svg{display:block;width:100%;max-width:38rem;height:auto;margin:.5rem 0}
"""


def page(figures: Mapping[str, Any], curve: Sequence[tuple[float, float]]) -> str:
    """The whole file, of ``evaluation.json``'s figures and the learning curve's points."""
    algorithm = str(figures["algorithm"])
    parts = [
        f"<h1>Evaluation of {escape(str(figures.get('policy', algorithm)))}</h1>",
        f'<p class="soft">{escape(algorithm)}; {figures["people"]:,} simulated people, the same with the same'
        " luck for every policy. Intervals are at 95 %.</p>",
        *_warnings(figures),
        *_value(figures, algorithm),
        *_slices(figures),
        *_ranking(figures, algorithm),
        *_off_policy(figures, algorithm),
        *_curve(curve),
        *_samples(figures.get("samples", [])),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Evaluation</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def warnings(figures: Mapping[str, Any]) -> list[str]:
    """What a person should know before anything else, one sentence each: the whole, then the worst slice."""
    found = [
        f"worse than {label(name, '')} by {-gap['difference']:.2f} a session"
        for name, gap in figures.get("lift", {}).items()
        if gap["high"] < 0
    ]
    rival = label(str(figures.get("rival", "")), "")
    lost = [row for row in figures.get("slices", []) if row["loses"]]
    return found + [
        f"{row['by']} {row['value']} ({row['people']:,} people): {row['difference']:+.2f} against {rival},"
        f" {row['low']:+.2f} to {row['high']:+.2f}, p {_chance(row['p'])} after Holm"
        for row in sorted(lost, key=lambda row: row["difference"])
    ]


def _chance(p: float) -> str:
    return f"= {p:.3f}" if p >= LEAST_P else f"< {LEAST_P}"


def _warnings(figures: Mapping[str, Any]) -> list[str]:
    found = [f"<li>{escape(text)}</li>" for text in warnings(figures)]
    if not found:
        return ['<p class="note">No baseline is better, and no slice of people loses.</p>']
    head, more = "".join(found[:AT_ONCE]), "".join(found[AT_ONCE:])
    rest = f"<details><summary>{len(found) - AT_ONCE} more</summary><ul>{more}</ul></details>" if more else ""
    return [f'<div class="note warn"><b class="bad">Look at this first</b><ul>{head}</ul>{rest}</div>']


def _value(figures: Mapping[str, Any], algorithm: str) -> list[str]:
    parts = ["<h2>Value</h2>"]
    for place in places(dict(figures)):
        rows = [
            {"policy": label(name, algorithm)} | dict(row)
            for name, row in sorted(figures[place].items(), key=lambda row: -row[1]["value"])
        ]
        parts += [as_svg(charts.values, figures, [place]), table(rows)]
    if "regret" in figures:
        rows = [{"policy": label(n, algorithm)} | dict(row) for n, row in figures["regret"].items()]
        parts += [
            "<h3>Regret</h3><p>What an oracle that sees every hidden number earns more, paired.</p>",
            table(rows),
        ]
    gaps = [{"policy minus": label(n, "")} | dict(row) for n, row in figures.get("lift", {}).items()]
    return [*parts, "<h3>Policy minus baseline, paired, in the user model</h3>", table(gaps)]


def _slices(figures: Mapping[str, Any]) -> list[str]:
    rows = figures.get("slices", [])
    if not rows:
        return []
    rival = str(figures["rival"])
    words = ["loses" if row["loses"] else "too few" if row["p"] is None else "" for row in rows]
    marks = [{"loses": "bad", "too few": "soft"}.get(word, "") for word in words]
    return [
        f"<h2>For whom</h2><p>Policy minus {escape(label(rival, ''))}, person by person. Each interval is of"
        " its slice alone; p is adjusted for all slices (Holm). Slices of too few people are not tested.</p>",
        as_svg(charts.differences, rows, rival),
        table([dict(row) | {"loses": word} for row, word in zip(rows, words, strict=True)], marks),
    ]


def _ranking(figures: Mapping[str, Any], algorithm: str) -> list[str]:
    parts = ["<h2>Ranking</h2><p>All items ranked, at 10, but for what the person had acted on before.</p>"]
    for key, title in (
        ("ranking", "The last act hidden"),
        ("ranking_later", "All that is new after a time hidden"),
    ):
        if key in figures:
            rows = [{"policy": label(n, algorithm)} | dict(row) for n, row in figures[key].items()]
            parts += [f"<h3>{title}</h3>", table(rows)]
            parts += [f'<p class="note">{escape(text)}</p>' for text in figures.get(f"{key}_leaks", [])]
    return parts


def _off_policy(figures: Mapping[str, Any], algorithm: str) -> list[str]:
    parts = ["<h2>Off-policy estimates</h2><p>Reward per request on the held-out people's log.</p>"]
    for name, found in figures.get("off_policy", {}).items():
        rows = [{"estimate": path} | leaf for path, leaf in leaves(found)]
        parts.append(f"<h3>{escape(label(name, algorithm))}</h3>")
        refused: dict[str, list[str]] = {}
        for row in rows:
            if row.get("why") and row.get("outcome") == "no-data":
                refused.setdefault(str(row["why"]), []).append(str(row["estimate"]))
        reasons = "".join(
            f"<li>{escape(', '.join(which))}: {escape(why)}</li>" for why, which in refused.items()
        )
        parts += [f'<div class="note">No estimate by<ul>{reasons}</ul></div>'] if reasons else []
        checked = [row for row in rows if row["estimate"].startswith("diagnostics")]
        given = [row for row in rows if "value" in row]
        parts += [table(part) for part in (given, checked) if part]
    return parts


def _curve(curve: Sequence[tuple[float, float]]) -> list[str]:
    return ["<h2>Learning curve</h2>", as_svg(charts.curve, curve)] if curve else []


def _samples(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    if not samples:
        return []
    rows = [{"slate": str(n), "after": s["history"], "shown": s["slate"]} for n, s in enumerate(samples, 1)]
    return ["<h2>Some slates</h2><p>The best-scored items of held-out people.</p>", table(rows)]


def leaves(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """The innermost mappings with their paths; numbers beside a mapping stand under their own path."""
    own = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    found = [(path or "all", own)] if own else []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += leaves(value, f"{path} {key}".strip())
    return found


def table(rows: Sequence[Mapping[str, Any]], classes: Sequence[str] = ()) -> str:
    """A table of all the columns that any row has; ``classes`` are the rows' styles."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [_column(name, [row.get(name) for row in rows]) for name in names]
    styles = [' class="text"' if max(map(len, column), default=0) > WORDY else "" for column in columns]
    head = "".join(
        f"<th{style}>{escape(name.replace('_', ' '))}</th>" for name, style in zip(names, styles, strict=True)
    )
    body = ""
    for at, mark in enumerate(classes or [""] * len(rows)):
        cells = (f"<td{s}>{escape(c[at])}</td>" for c, s in zip(columns, styles, strict=True))
        body += f'<tr class="{mark}">{"".join(cells)}</tr>' if mark else f"<tr>{''.join(cells)}</tr>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _column(name: str, values: Sequence[Any]) -> list[str]:
    """What a column's cells say: its largest number with four digits, the others with as many decimals."""
    sizes = [abs(x) for x in values if isinstance(x, float) and math.isfinite(x) and x]
    whole = all(size.is_integer() for size in sizes)
    decimals = 0 if whole else max(0, 3 - math.floor(math.log10(max(sizes))))
    return [_cell(name, value, decimals) for value in values]


def _cell(name: str, value: Any, decimals: int) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return _chance(value).removeprefix("= ") if name == "p" else f"{value:,.{decimals}f}"
        case Mapping():
            return "; ".join(map(str, value.items()))
        case list() | tuple():
            return "; ".join(map(str, value))
    return str(value)
