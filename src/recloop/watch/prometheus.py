"""The same rules for Prometheus, and what inhibits what for Alertmanager, as files of ``infra/prometheus``.

``python -m recloop.watch.prometheus`` writes them anew; a test holds them against the declarations.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from recloop.settings import load_params
from recloop.settings.params import Params
from recloop.watch.expressions import duration
from recloop.watch.notify import ALONE, OUTRANKS, REGROUP_US, REPEAT_US
from recloop.watch.rules import DEALT_WITH, INHIBITS, Rule, rules
from recloop.watch.summaries import EN, FIGURE, number

FOLDER = Path("infra/prometheus")
HEAD = "# Written by `python -m recloop.watch.prometheus` from src/recloop/watch/rules.py: change it there.\n"
KEPT = 1800.0  # seconds that a cause is kept after it ended, until what it caused has left the short windows
WAIT = 30.0  # seconds that Alertmanager gathers what comes together
DOCS = "docs/runbooks"


def rule_file(params: Params, hold: float | None = None) -> str:
    """rules.yml; every alert waits ``hold`` seconds where it is given."""
    lines = [HEAD + "groups:", "  - name: recloop", "    rules:"]
    for rule in rules(params):
        lines += _rule(rule, rule.hold if hold is None else hold)
    return "\n".join(lines) + "\n"


def alertmanager_file(url: str, wait: float = WAIT, regroup: float = REGROUP_US / 1e6) -> str:
    """alertmanager.yml: one message for a layer, to the webhook at ``url``, and none for what was caused."""
    repeat = duration(REPEAT_US / 1e6)
    lines = [
        HEAD + "route:",
        "  receiver: people",
        "  group_by: [layer]",
        f"  group_wait: {duration(wait)}",
        f"  group_interval: {duration(regroup)}",
        f"  repeat_interval: {repeat}",
        "  routes:",
        f"    - matchers: ['layer=\"{ALONE}\"']",
        "      group_by: [alertname, rollout]",
        "      group_wait: 0s",
        "receivers:",
        "  - name: people",
        "    webhook_configs:",
        f"      - url: {url}",
        "        send_resolved: true",
        "inhibit_rules:",
    ]
    for cause, caused in INHIBITS.items():
        lines += _inhibition([f'layer="{cause}"'], [f'layer=~"{"|".join(caused)}"'])
    for layer in OUTRANKS:
        which = f'layer="{layer}"'
        lines += _inhibition([which, 'severity="critical"'], [which, 'severity="warning"'])
    lines += _inhibition(
        [f'layer="{ALONE}"', 'severity="critical"'], [f'layer=~"{"|".join(DEALT_WITH)}"'], equal="policy"
    )
    return "\n".join(lines) + "\n"


def _rule(rule: Rule, hold: float) -> Iterable[str]:
    yield f"      - alert: {rule.name}"
    yield f"        expr: {_quoted(rule.when.promql())}"
    if hold:
        yield f"        for: {duration(hold)}"
    if rule.layer in INHIBITS and rule.layer != "inputs":
        yield f"        keep_firing_for: {duration(KEPT)}"
    yield f"        labels: {{severity: {rule.severity}, layer: {rule.layer}}}"
    yield "        annotations:"
    yield f"          summary: {_quoted(_template(rule))}"
    yield f"          runbook: {DOCS}/{rule.name}.md"


def _template(rule: Rule) -> str:
    """The sentence in Go's templates."""
    shown = {
        "percent": "{{ $value | humanizePercentage }}",
        "time": "{{ $value | humanizeDuration }}",
        "number": '{{ printf "%.4g" $value }}',
    }

    def filled(match: re.Match) -> str:
        if not match[2]:
            return f"{{{{ $labels.{match[1]} }}}}"
        return shown[match[2]] if match[1] == "value" else number(rule.limits[match[1]], match[2])

    return FIGURE.sub(filled, EN[rule.name])


def _inhibition(source: list[str], target: list[str], equal: str = "") -> list[str]:
    lines = [f"  - source_matchers: [{', '.join(map(_quoted, source))}]"]
    lines.append(f"    target_matchers: [{', '.join(map(_quoted, target))}]")
    if equal:
        lines.append(f"    equal: [{equal}]")
    return lines


def _quoted(text: str) -> str:
    """YAML's single quotes."""
    return "'" + text.replace("'", "''") + "'"


def main() -> None:
    """Write both files in the project's folder; the webhook's address is the first argument."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9099/alerts"
    (FOLDER / "rules.yml").write_text(rule_file(load_params()))
    (FOLDER / "alertmanager.yml").write_text(alertmanager_file(url))


if __name__ == "__main__":
    main()
