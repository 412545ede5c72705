"""What rooms above and pydantic say in a gate's sentence: kept in English, read in Korean here."""

from recloop.intake.wording import PYDANTIC
from recloop.schema.reading import Pair, Reader

OURS = (
    # experiments: why a test cannot be planned
    Pair(
        "{people} people came within {days} days: give the baseline by hand",
        "{days}일 동안 {people}명만 왔습니다. 기준값을 직접 적어 주세요",
    ),
    Pair(
        "a rate lies between 0 and 1, not at {mean}: give its sd too",
        "비율은 0과 1 사이여야 하는데 {mean}입니다. 표준편차도 적어 주세요",
    ),
    Pair("the standard deviation must be positive, not {sd}", "표준편차는 0보다 커야 하는데 {sd}입니다"),
    Pair(
        "a lift is relative to the baseline: it cannot be 0 or infinite",
        "상승률은 기준값에 대한 비율이므로 기준값이 0이거나 무한할 수 없습니다",
    ),
    Pair(
        "per_day must be positive, share in (0, 1): not {per_day}, {share}",
        "per_day는 0보다 크고 share는 0과 1 사이여야 하는데 {per_day}, {share}입니다",
    ),
    Pair("a lift of {lift} from {mean} leads nowhere", "기준값 {mean}에서 상승률 {lift}은(는) 뜻이 없습니다"),
    Pair("{name} is no metric; there are: {names}", "{name}은(는) 지표가 아닙니다. 지표: {names}"),
    # the registry
    Pair(
        "cannot open the registry at {place}: {fault}. Check that the folder can be written, that the disk is"
        " not full, and that no newer MLflow has made the file",
        "{place}의 레지스트리를 열 수 없습니다: {fault}. 폴더에 쓸 수 있는지, 디스크가 가득 차지 않았는지, 더"
        " 새로운 MLflow가 만든 파일이 아닌지 확인하세요",
    ),
    Pair(
        "the registry cannot be read: {fault}. Look at its database",
        "레지스트리를 읽을 수 없습니다: {fault}. 데이터베이스를 확인하세요",
    ),
)
KOREAN = Reader((*OURS, *PYDANTIC))


def said_in(language: str, text: str) -> str:
    """The text in the language; in English, and where nothing is known of it, as it is."""
    return text if language == "en" else KOREAN.read(text) or text
