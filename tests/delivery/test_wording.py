"""What gates say is kept as a code with figures, and reads the same in both languages."""

import ast
import copy
import inspect
import json
import pickle
import re
from dataclasses import asdict
from pathlib import Path
from string import Formatter

import pytest

from recloop.delivery import wording
from recloop.delivery.exchange import SlotFailure, believe
from recloop.delivery.gates import GATES, Verdict, offline
from recloop.delivery.wording import SENTENCES, Words, program_said, said_of, sentence, words
from recloop.experiments import metrics, plan
from recloop.registry import connect, resolve
from recloop.serving.messages import Ask, Moment

EN, KO = SENTENCES["en"], SENTENCES["ko"]
HERE = Path(wording.__file__).parents[1]


def fields(template):
    return {(name, spec) for _, name, spec, _ in Formatter().parse(template) if name}


def test_both_languages_have_every_sentence_with_the_same_figures():
    assert EN.keys() == KO.keys()
    of_figures_alone = {"verbatim", "by", "and", "experiment", "fault_said"}
    assert {code for code, text in KO.items() if not re.search("[가-힣]", text)} == of_figures_alone
    for code in EN.keys() - {"experiment"}:
        assert fields(EN[code]) == fields(KO[code]), code


def faults_of_answers():
    """The codes of what ``believe`` finds, and of an answer that did not come."""
    (names,) = (
        node.value.keys
        for node in ast.walk(ast.parse(inspect.getsource(believe)))
        if isinstance(node, ast.Assign) and node.targets[0].id == "faults"
    )
    return {name.value for name in names} | {"no_answer", "status_said"}


def test_every_code_in_the_source_is_known_and_every_known_one_is_used():
    source = "\n".join(path.read_text() for path in HERE.glob("*.py"))
    used = (
        set(re.findall(r'\bwords\(\s*"(\w+)"', source))
        | faults_of_answers()
        | set(re.findall(r'Trial\("(\w+)"', source))
    )
    used |= {"verbatim", "interval", "interval_at_any_time", "random", "most_popular", *GATES}
    used |= {f"feature_{name}" for name in ("device", "sex", "region", "age", "category")}
    assert used == EN.keys()


def test_a_sentence_knows_what_it_was_made_of_and_is_ready_for_json():
    inner = words("failures", failed=3, asked=90, allowed=0.01)
    told = words("by", gate=words("canary"), told=words("told", why=inner, remedy=words("mend_slot")))
    assert told == (
        "canary: 3 of 90 requests got no valid answer: more than the 1.0% that is allowed. To pass: find out"
        " from the slot's log why, and mend it"
    )
    kept = json.loads(json.dumps(told.said))
    assert sentence(kept, "en", "") == told
    assert sentence(kept, "ko", "").startswith("카나리: 요청 90건 가운데 3건이 올바른 응답을")
    assert "통과하려면: 슬롯의 로그에서" in sentence(kept, "ko", "")


def test_words_survive_what_tasks_and_the_store_do_to_them():
    verdict = offline({"champion": 10.0, "challenger": 9.0, "low": -3.0, "high": -1.0}, 0.05)
    for made in (copy.deepcopy(verdict), pickle.loads(pickle.dumps(verdict))):
        assert (made, made.why.said) == (verdict, verdict.why.said)
    assert asdict(verdict)["why"] == "challenger minus champion is within [-3.000, -1.000] at 95 %: worse"


def test_what_this_version_has_no_sentence_for_stays_as_it_was_written():
    for said in (None, {}, {"code": "of a newer version"}, {"code": "failures"}, {"code": "by", "gate": 1}):
        assert sentence(said, "ko", "as written") == "as written"
    assert sentence({"code": "slow", "p99_ms": None, "allowed_ms": 5}, "ko", "as written") == "as written"
    assert sentence(said_of("a person's <words>"), "ko", "") == "a person's <words>"


def test_a_sentence_with_a_figure_missing_cannot_be_made():
    with pytest.raises(KeyError):
        words("slow", p99_ms=3.0)
    with pytest.raises(KeyError):
        words("nonsense")


def test_a_verdict_of_other_words_is_told_too():
    told = Verdict("canary", "fail", "it is worse", remedy="be better").told
    assert isinstance(told, Words)
    assert (told, sentence(told.said, "ko", "")) == (
        "it is worse. To pass: be better",
        "it is worse. 통과하려면: be better",
    )


SLATE = {"request_id": "r", "items": ["a", "b"], "titles": ["A", "B"], "scores": [1.0, 2.0],
         "propensities": [0.5, 0.5], "policy": "p"}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "korean"),
    [
        ({"items": []}, "추천 목록이 비어 있거나 너무 깁니다"),
        ({"titles": ["A"]}, "목록들의 길이가 서로 다릅니다"),
        ({"items": ["a", "a"]}, "같은 항목이 두 번 있습니다"),
        ({"items": ["a", "x"]}, "제외한 항목이 있습니다"),
        ({"items": ["a", "z"]}, "저장소에 없는 항목이 있습니다"),
        ({"request_id": "other"}, "다른 요청에 대한 응답입니다"),
        ({"policy": "q"}, "정책이 q인데 라우팅에는 p입니다"),
        ({"scores": ["x", 1]}, "추천 목록이 아닙니다: 숫자로 읽을 수 없는 글입니다"),
        ({"propensities": [2, 1]}, "추천 목록이 아닙니다: 1 이하여야 합니다"),
        ({"more": 1}, "추천 목록이 아닙니다: 모르는 필드입니다"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said_in_both_languages(change, korean):
    raw = json.dumps(SLATE | change).encode()
    asked = Ask("u", Moment("phone", 1), 2, ["x"])
    with pytest.raises(SlotFailure) as failure:
        believe(raw, asked, "r", "p", "abx")
    why = failure.value.why
    assert why == str(failure.value)
    assert sentence(json.loads(json.dumps(why.said)), "ko", "") == korean
    assert sentence(why.said, "en", "") == why


def faults_of(*sources):
    """What they raise, with a number for each figure."""
    for source in sources:
        for node in ast.walk(ast.parse(inspect.getsource(source))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                text = node.exc.args[0]
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                yield "".join("31" if isinstance(part, ast.FormattedValue) else part.value for part in parts)


FAULTS = list(faults_of(plan, metrics, connect, resolve))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_rooms_above_say_in_a_gate_has_its_korean(fault):
    said = json.loads(json.dumps(words("no_plan", fault=program_said(fault)).said))
    korean = sentence(said, "ko", "")
    assert korean.count("31") == fault.count("31")
    assert not re.search("[a-z]{3,} [a-z]{2,} [a-z]{2,}", korean), korean
    assert sentence(said, "en", "") == f"the A/B test cannot be planned: {fault}"


def test_such_faults_are_found_and_what_is_not_known_stays():
    assert len(FAULTS) >= 8
    assert sentence(program_said("disk I/O error").said, "ko", "") == "disk I/O error"
