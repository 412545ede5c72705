"""What the pages say, in Korean and English, and which of them a person reads."""

from starlette.requests import Request

TEXTS = {
    "en": {
        "name": "recloop market",
        "tagline": "Talents who make, teach and mend",
        "consent_title": "First, your choice",
        "consent_text": "May your profile and what you clicked before decide what you are shown? Either way"
        " the shop works. What you click is kept under a pseudonym, and the suggestions learn from it.",
        "consent_yes": "Yes, personalise",
        "consent_no": "No, thank you",
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
        "consent_text": "프로필과 이전에 누른 항목을 추천에 사용해도 될까요? 어느 쪽을 고르셔도"
        " 이용에는 차이가 없습니다. 누르신 기록은 가명으로 보관되며, 추천은 그 기록에서 배웁니다.",
        "consent_yes": "네, 맞춤 추천을 받을게요",
        "consent_no": "아니요, 괜찮아요",
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
