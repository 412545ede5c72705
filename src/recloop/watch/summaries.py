"""What each alert says, in both languages; messages and Prometheus's annotations have the English one.

``{label}`` is a label of the series, ``{value|percent}`` its value, another figure one of the rule's limits.
``|time`` and ``|number`` are the other ways to show one.
"""

import re
from collections.abc import Mapping

from recloop.delivery.wording import SENTENCES as GATES

HOUR, DAY = 3600.0, 86400.0
FIGURE = re.compile(r"\{(\w+)(?:\|(\w+))?\}")
EN = {
    "GatewayDown": "{instance} does not answer: `recloop status`, then its log under RECLOOP_HOME/logs",
    "StoreUnreadable": "{instance} has not read the store for {value|time}: rollouts do not reach it",
    "SlotFails": "slot {slot} ({policy}) fails {value|percent} of its requests",
    "Fallbacks": "no slot answers {value|percent} of the requests: people get the most popular items",
    "SlotSlow": "slot {slot} ({policy}) needs more than {limit|number} ms for {value|percent} of its"
    " requests",
    "SlotBlind": "slot {slot} ({policy}) cannot read the history of {value|percent} of the people: it takes"
    " them for strangers",
    "AvailabilityBurn": "{value|percent} of the slates miss the objective that {target|percent} of the slates"
    " come from a policy, without an error",
    "LatencyBurn": "{value|percent} of the slates miss the objective that {target|percent} of the slates come"
    " within {limit|number} ms",
    "FeedbackRefused": "{value|percent} of the feedback is quarantined: `recloop quarantine list`",
    "Quarantined": "{value|percent} of the last day's rows were refused: `recloop quarantine list`",
    "FeedbackQuiet": "no feedback for {value|time}: is the storefront up, do its events reach the gateway?",
    "FlowFails": "flow {flow} has failed {value|number} times in a row: its log is in Prefect",
    "RewardLoss": "reward per request fell by {value|number} or more since training (95 %): look at the last"
    " rollout, or retrain",
    "Drift": "{kind}: {feature} is {value|number} away from {reference}: look at it, or retrain",
    "UserModelOff": "{policy}: people do {act} at another rate than the user model told, by a factor of 1.25"
    " at least: retrain",
    "ExplorationLost": "{policy} explores with {value|percent} of its picks: what it logs cannot be learnt"
    " from",
    "ExporterDown": "{instance} does not tell of rewards, data and drift: start `recloop watch exporter`",
    "TrainingOld": "nothing was trained for {value|time}: see the flow `retrain` in Prefect",
    "RolloutRefused": "rollout {rollout}: the gate {gate} refused {policy} ({reason}), and the champion has"
    " everybody: `recloop rollout history` says what would have to change",
    "RolloutRolledBack": "rollout {rollout}: {policy} was champion, and gave everybody back, since the gate"
    " {gate} failed after the switch ({reason}): `recloop rollout history`",
    "RolloutPaused": "rollout {rollout}: {policy} waits for a person, since the gate {gate} lacks data"
    " ({reason}): `recloop rollout history`, then resume or abort it",
}
KO = {
    "GatewayDown": "{instance}이(가) 응답하지 않습니다. `recloop status`와 RECLOOP_HOME/logs의 로그를"
    " 확인하세요",
    "StoreUnreadable": "{instance}이(가) {value|time} 동안 저장소를 읽지 못해 배포가 전달되지 않습니다",
    "SlotFails": "슬롯 {slot}({policy})이 요청의 {value|percent}에 실패합니다",
    "Fallbacks": "요청의 {value|percent}에 응답하는 슬롯이 없어 가장 인기 있는 항목을 보여 줍니다",
    "SlotSlow": "슬롯 {slot}({policy})의 요청 {value|percent}가 {limit|number} ms보다 오래 걸립니다",
    "SlotBlind": "슬롯 {slot}({policy})이 이용자 {value|percent}의 기록을 읽지 못해 처음 온 사람으로"
    " 대합니다",
    "AvailabilityBurn": "추천의 {target|percent}를 오류 없이 정책이 응답한다는 목표를 추천의"
    " {value|percent}가"
    " 지키지 못합니다",
    "LatencyBurn": "추천의 {target|percent}를 {limit|number} ms 안에 응답한다는 목표를 추천의"
    " {value|percent}가"
    " 지키지 못합니다",
    "FeedbackRefused": "피드백의 {value|percent}가 격리되고 있습니다: `recloop quarantine list`",
    "Quarantined": "지난 하루 데이터의 {value|percent}가 거절되었습니다: `recloop quarantine list`",
    "FeedbackQuiet": "{value|time} 동안 피드백이 없습니다. 스토어가 열려 있고 이벤트가 게이트웨이에 닿는지"
    " 확인하세요",
    "FlowFails": "흐름 {flow}이(가) 연달아 {value|number}번 실패했습니다. 로그는 Prefect에 있습니다",
    "RewardLoss": "학습 이후 요청당 보상이 {value|number} 이상 떨어졌습니다(95 %). 최근 배포를 확인하거나"
    " 다시"
    " 학습하세요",
    "Drift": "{kind}: {feature}의 거리가 {value|number}입니다(비교 대상: {reference}). 확인하거나 다시"
    " 학습하세요",
    "UserModelOff": "{policy}: {act} 비율이 사용자 모델의 예측과 1.25배 넘게 다릅니다. 다시 학습하세요",
    "ExplorationLost": "{policy}이(가) 선택의 {value|percent}만 탐색하여 그 기록으로는 학습할 수 없습니다",
    "ExporterDown": "{instance}이(가) 보상, 데이터, 분포 변화를 알리지 않습니다. `recloop watch exporter`를"
    " 시작하세요",
    "TrainingOld": "{value|time} 동안 학습이 없었습니다. Prefect의 `retrain` 흐름을 확인하세요",
    "RolloutRefused": "배포 {rollout}: {gate} 게이트가 {policy}을(를) 거부하여({reason}) 모두 챔피언의 추천을"
    " 받습니다. 무엇이 바뀌어야 하는지는 `recloop rollout history`에 있습니다",
    "RolloutRolledBack": "배포 {rollout}: 전환 뒤 {gate} 게이트가 실패하여({reason}) {policy}에서 이전"
    " 챔피언으로"
    " 되돌렸습니다: `recloop rollout history`",
    "RolloutPaused": "배포 {rollout}: {gate} 게이트의 데이터가 부족하여({reason}) {policy}이(가) 사람의"
    " 결정을"
    " 기다립니다. `recloop rollout history`를 보고 다시 진행하거나 중단하세요",
}
for texts in (EN, KO):
    texts |= {f"{name}SlowBurn": texts[f"{name}Burn"] for name in ("Availability", "Latency")}
SUMMARIES = {"en": EN, "ko": KO}
VALUES = {
    "en": {},
    "ko": {
        "inputs": "이용자", "actions": "노출", "propensities": "노출 확률", "device": "기기", "sex": "성별",
        "region": "지역", "age": "나이", "category": "분류", "propensity": "노출 확률",
        "training": "마지막 학습 이전", "same hour of the week": "같은 요일 같은 시각",
        "same hour of the day": "같은 시각", "hours before": "직전 몇 시간", "click": "클릭",
        "purchase": "구매",
        **{gate: GATES["ko"][gate] for gate in ("offline", "smoke", "shadow", "canary", "switch")},
        "ab": "A/B 테스트",
    },
}  # fmt: skip
UNITS = {
    "en": (" days", " hours", " minutes", " seconds"),
    "ko": ("일", "시간", "분", "초"),
}


def summary(
    name: str, language: str, labels: Mapping[str, str], figures: Mapping[str, float], written: str = ""
) -> str:
    """The sentence of one case of the rule; ``written`` where a figure or a label of it is not known."""
    template, values = SUMMARIES[language].get(name), VALUES[language]

    def filled(match: re.Match) -> str:
        if match[2]:
            return number(figures[match[1]], match[2], language)
        return values.get(labels[match[1]], labels[match[1]])

    try:
        return FIGURE.sub(filled, template) if template else written
    except KeyError:
        return written


def number(x: float, how: str, language: str = "en") -> str:
    """A figure as ``percent``, ``time`` (seconds) or ``number``."""
    return _time(x, language) if how == "time" else f"{100 * x:.4g}%" if how == "percent" else f"{x:.4g}"


def _time(seconds: float, language: str) -> str:
    *units, last = UNITS[language]
    for size, unit in zip((DAY, HOUR, 60.0), units, strict=True):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}{last}"
