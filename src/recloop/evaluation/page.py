"""The report as one HTML file: no script, nothing loaded from elsewhere, readable on a phone, light and dark.

Whatever comes from data (titles, categories, devices) passes ``html.escape``.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recloop.evaluation import charts
from recloop.evaluation.charts import TITLES, as_svg, label, places

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d5d9de;--soft:#5d6770;--bad:#b03a00;
--box:#f4f6f8}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7ea;--paper:#14171a;--rule:#3a4047;--soft:#9aa4ad;--bad:#ff9a66;
--box:#1d2226}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2rem 0 .4rem;border-top:1px solid var(--rule);
padding-top:.8rem}
p,li{max-width:45rem}.soft{color:var(--soft)}.bad{color:var(--bad);font-weight:600}
.note{background:var(--box);border-left:4px solid var(--rule);padding:.5rem .8rem;margin:.6rem 0}
.note.warn{border-color:var(--bad)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}td.text{text-align:left;white-space:normal;min-width:14rem}
svg{display:block;max-width:100%;height:auto;margin:.5rem 0}
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
    """What a person should know before anything else, one sentence each."""
    found = []
    rival = label(str(figures.get("rival", "")), "")
    for row in figures.get("slices", []):
        if row["loses"]:
            found.append(
                f"{row['by']} {row['value']} ({row['people']} people): {row['difference']:+.2f} against"
                f" {rival}, {row['low']:+.2f} to {row['high']:+.2f}, p = {row['p']:.2g} after Holm"
            )
    for name, gap in figures.get("lift", {}).items():
        if gap["high"] < 0:
            found.append(f"worse than {label(name, '')} by {-gap['difference']:.2f} a session")
    return found


def _warnings(figures: Mapping[str, Any]) -> list[str]:
    found = warnings(figures)
    if not found:
        return ['<p class="note">No baseline is better, and no slice of people loses.</p>']
    items = "".join(f"<li>{escape(text)}</li>" for text in found)
    return [f'<div class="note warn"><b class="bad">Look at this first</b><ul>{items}</ul></div>']


def _value(figures: Mapping[str, Any], algorithm: str) -> list[str]:
    parts = ["<h2>Value</h2>"]
    for place in places(dict(figures)):
        rows = [
            {"policy": label(name, algorithm)} | dict(row)
            for name, row in sorted(figures[place].items(), key=lambda row: -row[1]["value"])
        ]
        parts += [f"<h3>{escape(TITLES[place])}</h3>", as_svg(charts.values, figures, [place]), table(rows)]
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
    shown = [dict(row) | {"loses": "loses" if row["loses"] else ""} for row in rows]
    return [
        f"<h2>For whom</h2><p>Policy minus {escape(label(rival, ''))}, person by person. Each interval is of"
        " its slice alone; p is adjusted for all slices (Holm).</p>",
        as_svg(charts.differences, rows, rival),
        table(shown),
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
        parts += [f"<h3>{escape(label(name, algorithm))}</h3>", table(rows)]
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


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of all the columns that any row has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(row.get(name)) for name in names)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return "<td>–</td>"
    if isinstance(value, bool | int):
        return (
            f"<td>{value:,}</td>" if not isinstance(value, bool) else f"<td>{'yes' if value else 'no'}</td>"
        )
    if isinstance(value, float):
        return f"<td>{value:,.0f}</td>" if abs(value) >= 1000 else f"<td>{value:.4g}</td>"
    if isinstance(value, Mapping | list | tuple):
        value = "; ".join(map(str, value.items() if isinstance(value, Mapping) else value))
    text = escape(str(value))
    return f'<td class="text">{text}</td>' if len(text) > 24 else f"<td>{text}</td>"
