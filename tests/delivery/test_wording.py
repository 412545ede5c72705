"""What gates say is kept as a code with figures, and reads the same in both languages."""

import copy
import json
import pickle
import re
from dataclasses import asdict
from pathlib import Path
from string import Formatter

import pytest

from recloop.delivery import wording
from recloop.delivery.gates import GATES, Verdict, offline
from recloop.delivery.wording import SENTENCES, Words, said_of, sentence, words

EN, KO = SENTENCES["en"], SENTENCES["ko"]
HERE = Path(wording.__file__).parents[1]


def fields(template):
    return {(name, spec) for _, name, spec, _ in Formatter().parse(template) if name}


def test_both_languages_have_every_sentence_with_the_same_figures():
    assert EN.keys() == KO.keys()
    of_figures_alone = {"verbatim", "by", "and", "experiment"}
    assert {code for code, text in KO.items() if not re.search("[가-힣]", text)} == of_figures_alone
    for code in EN.keys() - {"experiment"}:
        assert fields(EN[code]) == fields(KO[code]), code


def test_every_code_in_the_source_is_known_and_every_known_one_is_used():
    source = "\n".join(path.read_text() for path in HERE.glob("*.py"))
    used = set(re.findall(r'\bwords\(\s*"(\w+)"', source)) | set(re.findall(r'Trial\("(\w+)"', source))
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
