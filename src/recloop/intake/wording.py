"""Why rows were refused, in Korean. Reasons are kept in English, as a sender gets them, and read here.

Another reason is a line: the English with its figures, and the Korean. The name of the field before it stays.
"""

from recloop.schema.reading import Pair, Reader

OURS = (
    # acts
    Pair("an event is a JSON object, not {kind}", "행동은 JSON 객체여야 합니다({kind}이(가) 왔습니다)"),
    Pair("before 1970, by the clock that sent states", "sent의 시계로 보면 1970년 이전입니다"),
    Pair(
        "{seconds} s ahead of the server's clock, 60 s at most",
        "서버의 시계보다 {seconds}초 앞섭니다. 60초까지 허용됩니다",
    ),
    Pair("{days} days old, {most} at most", "{days}일 지났습니다. {most}일까지 허용됩니다"),
    Pair(
        "{theirs} breaks with {ours}, which is taken here",
        "{theirs}은(는) 여기서 받는 {ours}와 호환되지 않습니다",
    ),
    Pair("no field of an event", "행동에 없는 필드입니다"),
    Pair("more than {most} characters in unknown fields", "모르는 필드가 {most}자를 넘습니다"),
    Pair(
        "microseconds since 1970 by the sender's clock, when it sent the row",
        "보낸 쪽의 시계로 보낸 시각을 1970년부터의 마이크로초로 적어야 합니다",
    ),
    Pair('two numbers as in "1.0"', '"1.0"처럼 두 숫자여야 합니다'),
    Pair("{item} is no item of the catalogue", "{item}은(는) 카탈로그에 없는 항목입니다"),
    Pair("{act} is known with another {fields}", "{act}은(는) 다른 내용({fields})으로 이미 있습니다"),
    Pair(
        "{rows} events in one request, {most} at most",
        "한 요청에 행동 {rows}개가 왔습니다. {most}개까지 허용됩니다",
    ),
    # profiles and sensors
    Pair("a {kind} needs consent to personalisation", "{kind}에는 맞춤 추천 동의가 필요합니다"),
    Pair(
        "contact data is no part of a profile: see store.personal",
        "연락처는 프로필에 둘 수 없습니다(store.personal 참고)",
    ),
    Pair(
        "a place: send it as the reading of a sensor, of which a cell is kept",
        "위치입니다. 센서 측정값으로 보내면 격자 칸만 보관합니다",
    ),
    Pair("a NUL, which no text holds", "글에 있을 수 없는 NUL 문자가 있습니다"),
    Pair("{minutes} minutes old, {most} at most", "{minutes}분 지났습니다. {most}분까지 허용됩니다"),
    Pair("one without the other", "둘 가운데 하나만 있습니다"),
    Pair("a reading says nothing", "측정값이 없습니다"),
    # files of one's own
    Pair("a row is a JSON object, not {kind}", "행은 JSON 객체여야 합니다({kind}이(가) 왔습니다)"),
    Pair("{seconds} s ahead of this machine's clock", "이 컴퓨터의 시계보다 {seconds}초 앞섭니다"),
    Pair("the request has another {fields} there", "이 요청의 그 자리에는 다른 내용({fields})이 있습니다"),
    # consents
    Pair(
        "{version}, but the terms' is {present}",
        "{version} 버전이지만 현재 약관은 {present} 버전입니다",
    ),
    Pair(
        "in the future; it is in microseconds since 1970, UTC",
        "미래의 시각입니다. 단위는 1970년(UTC)부터의 마이크로초입니다",
    ),
    Pair("older than what the person said of it since", "그 뒤에 본인이 밝힌 뜻보다 오래되었습니다"),
    # items
    Pair(
        "a reference is http://host/... or https://host/..., without a name or password",
        "참조는 http://host/... 또는 https://host/... 형식이며 이름과 비밀번호가 없어야 합니다",
    ),
    # files
    Pair(
        "cannot read {path}: {error}; is it whole, of the kind that it is named, and in UTF-8?",
        "{path}을(를) 읽을 수 없습니다({error}). 온전하고 이름과 같은 형식이며 UTF-8인지 확인하십시오",
    ),
    # logs
    Pair("neither a combined log line nor a JSON line", "결합 로그 형식도 JSON도 아닌 줄입니다"),
    Pair("a JSON line that does not end or is not JSON", "끝나지 않았거나 JSON이 아닌 줄입니다"),
    Pair("not as in {example}", "{example} 형식이 아닙니다"),
    Pair("missing", "없습니다"),
    Pair("not in the form that nginx writes", "nginx가 쓰는 형식이 아닙니다"),
    Pair("without an offset from UTC", "UTC와의 시차가 없습니다"),
    Pair("no time with an offset from UTC", "UTC와의 시차가 있는 시각이 아닙니다"),
    # files of datasets
    Pair("bytes that are not {encoding}", "{encoding}이(가) 아닌 바이트가 있습니다"),
    Pair("not {count} fields", "필드가 {count}개가 아닙니다"),
    Pair("no number from {low} to {high}", "{low}부터 {high}까지의 숫자가 아닙니다"),
    Pair("repeats an earlier row", "앞의 행과 같습니다"),
    Pair(
        "an identifier is 1 to 24 letters, digits or . _ : -",
        "식별자는 영문자, 숫자, . _ : - 로 된 1~24자여야 합니다",
    ),
    Pair("none of {words}", "다음 가운데 하나여야 합니다: {words}"),
    Pair("not among the items kept", "받아들인 항목 가운데 없습니다"),
    Pair("not among the people kept", "받아들인 사람 가운데 없습니다"),
    Pair("empty or above {most} characters", "비어 있거나 {most}자를 넘습니다"),
    Pair("empty or too long", "비어 있거나 너무 깁니다"),
    Pair("empty", "비어 있습니다"),
    Pair("too long", "너무 깁니다"),
    Pair("above {most} characters", "{most}자를 넘습니다"),
    Pair("neither M nor F", "M도 F도 아닙니다"),
    Pair("0, though the item was shown", "항목이 노출되었는데 0입니다"),
    Pair("a transaction without one", "거래인데 없습니다"),
    Pair("availability is 0 or 1", "판매 여부는 0 또는 1이어야 합니다"),
    # whole bodies
    Pair("the body is longer than {most} bytes", "본문이 {most}바이트를 넘습니다"),
    Pair("the body is not UTF-8: {why}", "본문이 UTF-8이 아닙니다: {why}"),
    Pair("the body is nested too deeply", "본문이 너무 깊이 중첩되어 있습니다"),
    Pair(
        "{why}: numbers must be finite, words in quotes",
        "{why}. 숫자는 유한해야 하고 글은 따옴표 안에 있어야 합니다",
    ),
)
MSGSPEC = (
    Pair("{why} - at `{where}`", "{why}(위치: `{where}`)"),
    Pair("JSON is malformed: {why} (byte {at})", "JSON이 올바르지 않습니다: {why}({at}번째 바이트)"),
    Pair("Input data was truncated", "중간에 끊겼습니다"),
    Pair("Number out of range", "숫자가 범위를 벗어납니다"),
    Pair("Expected `{kind}`, got `{found}`", "`{kind}`이(가) 아니라 `{found}`이(가) 왔습니다"),
    Pair("Invalid UTF-8", "UTF-8이 아닙니다"),
    Pair("invalid character", "허용되지 않는 문자"),
    Pair("invalid escaped character", "허용되지 않는 이스케이프 문자"),
    Pair("invalid escape character in string", "글 안의 허용되지 않는 이스케이프 문자"),
    Pair("invalid character in unicode escape", "유니코드 이스케이프 안의 허용되지 않는 문자"),
    Pair("invalid utf-16 surrogate pair", "올바르지 않은 UTF-16 서로게이트 쌍"),
    Pair("unexpected end of escaped utf-16 surrogate pair", "도중에 끝난 UTF-16 서로게이트 쌍"),
    Pair("unexpected end of hex escape", "도중에 끝난 16진 이스케이프"),
    Pair("invalid number", "올바르지 않은 숫자"),
    Pair("object keys must be strings", "객체의 키는 글이어야 합니다"),
    Pair("expected {words}", "{words} 필요"),
    Pair("trailing comma in array", "배열 끝의 쉼표"),
    Pair("trailing comma in object", "객체 끝의 쉼표"),
    Pair("trailing characters", "끝난 뒤에 더 있는 문자"),
    Pair("invalid start byte", "허용되지 않는 첫 바이트"),
    Pair("invalid continuation byte", "허용되지 않는 다음 바이트"),
    Pair("unexpected end of data", "예상치 못한 데이터의 끝"),
)
PYDANTIC = (
    Pair("Value error, {why}", "{why}"),
    Pair("Field required", "있어야 하는 필드입니다"),
    Pair("Extra inputs are not permitted", "모르는 필드입니다"),
    Pair("Keys should be strings", "키는 글이어야 합니다"),
    Pair("Input should be greater than or equal to {least}", "{least} 이상이어야 합니다"),
    Pair("Input should be less than or equal to {most}", "{most} 이하여야 합니다"),
    Pair("Input should be greater than {least}", "{least}보다 커야 합니다"),
    Pair("Input should be less than {most}", "{most}보다 작아야 합니다"),
    Pair("Input should be a finite number", "유한한 숫자여야 합니다"),
    Pair(
        "Input should be a valid number, unable to parse string as a number", "숫자로 읽을 수 없는 글입니다"
    ),
    Pair("Input should be a valid number", "숫자여야 합니다"),
    Pair(
        "Input should be a valid integer, unable to parse string as an integer",
        "정수로 읽을 수 없는 글입니다",
    ),
    Pair(
        "Input should be a valid integer, got a number with a fractional part",
        "정수여야 하는데 소수 부분이 있습니다",
    ),
    Pair("Input should be a valid integer", "정수여야 합니다"),
    Pair(
        "Unable to parse input string as an integer, exceeded maximum size", "정수로 읽기에 너무 긴 글입니다"
    ),
    Pair(
        "Input should be a valid boolean, unable to interpret input",
        "true 또는 false로 읽을 수 없습니다",
    ),
    Pair("Input should be a valid boolean", "true 또는 false여야 합니다"),
    Pair(
        "Input should be a valid string, unable to parse raw data as a unicode string",
        "유니코드로 읽을 수 없는 글입니다",
    ),
    Pair("Input should be a valid string", "글이어야 합니다"),
    Pair("String should have at least {least} character(s)", "{least}자 이상이어야 합니다"),
    Pair("String should have at most {most} character(s)", "{most}자 이하여야 합니다"),
    Pair("String should match pattern '{pattern}'", "`{pattern}` 형식이어야 합니다"),
    Pair("String should contain only ASCII characters", "ASCII 문자만 쓸 수 있습니다"),
    Pair(
        "{what} should have at least {least} item(s) after validation, not {found}",
        "{least}개 이상이어야 하는데 {found}개입니다",
    ),
    Pair(
        "{what} should have at most {most} item(s) after validation, not {found}",
        "{most}개까지 허용되는데 {found}개입니다",
    ),
    Pair("Input should be a valid dictionary or instance of {record}", "{record} 형식의 객체여야 합니다"),
    Pair(
        "Input should be a valid dictionary or object to extract fields from",
        "필드가 있는 객체여야 합니다",
    ),
    Pair("Input should be a valid dictionary", "객체여야 합니다"),
    Pair("Input should be an object", "객체여야 합니다"),
    Pair("Input should be a valid list", "목록이어야 합니다"),
    Pair("Input should be a valid array", "목록이어야 합니다"),
    Pair("Invalid JSON: {fault}", "JSON이 올바르지 않습니다: {fault}"),
    Pair("JSON input should be string, bytes or bytearray", "JSON은 글이나 바이트여야 합니다"),
    Pair(
        "Input tag '{tag}' found using {field} does not match any of the expected tags: {words}",
        "{field}의 값 '{tag}'은(는) 다음 가운데 하나여야 합니다: {words}",
    ),
    Pair("Unable to extract tag using discriminator {field}", "{field} 필드가 없습니다"),
    Pair("Input should be {words}", "다음 가운데 하나여야 합니다: {words}"),
)
KOREAN = Reader((*OURS, *MSGSPEC, *PYDANTIC))


def reason_in(language: str, reason: str) -> str:
    """A kept reason in the language; in English, and where nothing is known of it, as it was written."""
    return reason if language == "en" else KOREAN.read(reason) or reason
