"""What the pages say, in Korean and English, and which of them a person reads."""

from starlette.requests import Request

TEXTS = {
    "en": {
        "name": "recloop market",
        "tagline": "Talents who make, teach and mend",
        "consent_title": "First, your choice",
        "consent_text": "The shop works whatever you choose, and you can change it at any time. Without the"
        " first nothing that you do is kept.",
        "service": "Keep what I am shown and what I do here, under a pseudonym",
        "personalisation": "Let that and my profile decide what I am shown (needs the first)",
        "training": "Let the suggestions for everybody learn from it",
        "marketing": "Use it to send me offers",
        "consent_save": "Save my choice",
        "why": "Why this?",
        "personal": "Chosen with your clicks in mind",
        "anonymous": "Chosen without looking at you",
        "change": "Change",
        "for_you": "For you now",
        "fallback": "What most people like: the recommender is taking a breath",
        "open": "Look closer",
        "dismiss": "Not for me",
        "opened": "Noted: you liked it",
        "dismissed": "Noted: less of this",
        "failed": "That could not be noted. Please try again",
        "more": "Show me others",
        "probability": "Shown here with probability",
        "busy": "The shop is busy. Please load the page again in a moment",
        "other_language": "한국어",
        "other": "ko",
    },
    "ko": {
        "name": "recloop 마켓",
        "tagline": "만들고, 가르치고, 고치는 재능들",
        "consent_title": "먼저 선택해 주세요",
        "consent_text": "무엇을 고르셔도 이용할 수 있고, 언제든지 바꿀 수 있습니다. 첫 번째에 동의하지"
        " 않으시면 행동 기록을 보관하지 않습니다.",
        "service": "보여 드린 항목과 제 행동을 가명으로 보관하는 데 동의합니다",
        "personalisation": "그 기록과 프로필을 제 맞춤 추천에 쓰는 데 동의합니다 (첫 번째 필요)",
        "training": "모두를 위한 추천의 학습에 쓰는 데 동의합니다",
        "marketing": "광고성 정보를 보내는 데 쓰는 데 동의합니다",
        "consent_save": "선택 저장",
        "why": "왜 이 항목인가요?",
        "personal": "내가 누른 항목을 반영한 추천",
        "anonymous": "나를 보지 않고 고른 추천",
        "change": "바꾸기",
        "for_you": "지금 추천하는 재능",
        "fallback": "추천이 잠시 쉬는 동안 가장 인기 있는 항목을 보여 드려요",
        "open": "자세히 보기",
        "dismiss": "관심 없어요",
        "opened": "좋아하신다고 기록했어요",
        "dismissed": "비슷한 항목을 줄일게요",
        "failed": "기록하지 못했어요. 다시 시도해 주세요",
        "more": "다른 추천 보기",
        "probability": "이 자리에 보일 확률",
        "busy": "지금은 이용이 많아요. 잠시 후 다시 열어 주세요",
        "other_language": "English",
        "other": "en",
    },
}


def language(request: Request) -> str:
    """``?lang``, else the first of Accept-Language that we speak, else English."""
    asked = request.query_params.get("lang", "")
    if asked in TEXTS:
        return asked
    for part in request.headers.get("accept-language", "").split(","):
        code = part.strip()[:2].lower()
        if code in TEXTS:
            return code
    return "en"
