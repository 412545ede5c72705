"""The verdict in a sentence for who decides about the product, in Korean and English."""

import math
from typing import Literal

from recloop.experiments.metrics import METRICS
from recloop.experiments.report import Line, Report

Language = Literal["en", "ko"]

TEXTS: dict[Language, dict[str, str]] = {
    "en": {
        "win": "'{arm}' wins: {metric} changes by {change} ({low} to {high}).",
        "win_next": "Give '{arm}' to everybody, and stop the experiment.",
        "lose": "'{arm}' loses: {metric} changes by {change} ({low} to {high}).",
        "lose_next": "Keep '{control}', and stop the experiment.",
        "no_difference": "No difference worth having: '{arm}' changes {metric} by {change} ({low} to {high}),"
        " and the {effect} that was planned for is out of sight.",
        "no_difference_next": "Keep '{control}', whichever is simpler to run, and test a bolder idea.",
        "keep_going": "Too early to say: {people} of {planned} people have met the experiment; {metric} has"
        " changed by {change} with '{arm}' ({low} to {high}).",
        "too_few": "Too early to say: {people} of {planned} people have met the experiment, too few for"
        " figures.",
        "keep_going_next": "Keep going until {next} people, and change nothing on the way.",
        "look_due_next": "The look at {next} people is due: ask for the report, which takes it.",
        "harmed": "'{arm}' does harm: {hurt} got worse, whatever {metric} does ({change}, {low} to {high}).",
        "harmed_next": "Stop the experiment, and give everybody '{control}'.",
        "blocked": "No verdict: the arms are not as large as they should be ({sizes}; p = {ratio_p}), so"
        " their people cannot be compared.",
        "blocked_next": "Find out where people of one arm get lost (redirects, crashes, bots, logging),"
        " mend it and begin a new experiment.",
    },
    "ko": {
        "win": "'{arm}' 승리: {metric} 변화 {change} (범위 {low} ~ {high}).",
        "win_next": "'{arm}' 안을 모든 이용자에게 적용하고 실험을 끝내세요.",
        "lose": "'{arm}' 패배: {metric} 변화 {change} (범위 {low} ~ {high}).",
        "lose_next": "'{control}' 안을 유지하고 실험을 끝내세요.",
        "no_difference": "의미 있는 차이 없음: '{arm}' 안에서 {metric} 변화는 {change}"
        " (범위 {low} ~ {high})이고, 계획한 {effect}의 개선은 기대하기 어렵습니다.",
        "no_difference_next": "'{control}' 안을 유지하거나 운영이 더 쉬운 쪽을 고르고,"
        " 더 과감한 안을 시험해 보세요.",
        "keep_going": "아직 판단하기 이릅니다: 계획한 {planned}명 가운데 {people}명이 참여했고,"
        " '{arm}' 안에서 {metric} 변화는 지금까지 {change} (범위 {low} ~ {high})입니다.",
        "too_few": "아직 판단하기 이릅니다: 계획한 {planned}명 가운데 {people}명이 참여해 수치를 내기에는"
        " 너무 적습니다.",
        "keep_going_next": "{next}명이 될 때까지 아무것도 바꾸지 말고 계속하세요.",
        "look_due_next": "{next}명에서 할 판정 차례입니다. 보고서를 요청하면 판정합니다.",
        "harmed": "'{arm}' 안은 해롭습니다: {metric} 변화({change}, 범위 {low} ~ {high})와 관계없이"
        " {hurt} 지표가 나빠졌습니다.",
        "harmed_next": "실험을 멈추고 모든 이용자에게 '{control}' 안을 적용하세요.",
        "blocked": "판단 불가: 집단의 크기가 정한 비율과 다릅니다({sizes}; p = {ratio_p})."
        " 이대로는 두 집단을 비교할 수 없습니다.",
        "blocked_next": "한쪽 이용자가 어디서 빠지는지(리디렉션, 오류, 봇, 기록 누락) 찾아 고친 뒤 새 실험을"
        " 시작하세요.",
    },
}


def sentences(report: Report, language: Language) -> dict[str, str]:
    """Per arm other than the control: what happened, and what to do next."""
    return {arm: _sentence(report, arm, language) for arm in report.outcomes}


def _sentence(report: Report, arm: str, language: Language) -> str:
    line = next(one for one in report.lines if one.arm == arm and one.role == "primary")
    outcome, texts = report.outcomes[arm], TEXTS[language]
    control = next(iter(report.people))
    words = {
        "arm": arm,
        "control": control,
        "metric": METRICS[line.metric].titles[language],
        "change": _change(line, line.gap.difference),
        "low": _change(line, line.gap.low),
        "high": _change(line, line.gap.high),
        "effect": _change(line, report.effect),
        "people": f"{sum(report.people.values()):,}",
        "planned": f"{report.planned:,}",
        "next": f"{report.next_look or report.planned:,}",
        "hurt": ", ".join(METRICS[name].titles[language] for name in report.hurt[arm]),
        "sizes": ", ".join(f"{name} {count:,}" for name, count in report.people.items()),
        "ratio_p": f"{report.ratio_p:.1g}",
    }
    said, then = texts[outcome], texts[f"{outcome}_next"]
    if outcome == "keep_going":
        said = said if math.isfinite(line.gap.low) else texts["too_few"]
        due = report.next_look and sum(report.people.values()) >= report.next_look
        then = texts["look_due_next"] if due else then
    return f"{said} {then}".format(**words)


def _change(line: Line, amount: float) -> str:
    """Relative to the control, where it has something to be relative to."""
    if not math.isfinite(amount):
        return "?" if math.isnan(amount) else f"{amount:+}".replace("inf", "∞")
    return f"{amount / abs(line.gap.control):+.1%}" if line.gap.control else f"{amount:+.4g}"
