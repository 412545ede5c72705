"""What the offers of the generated marketplace are called, in English and Korean."""

CRAFTS = {
    "Logo": ("Logo design", "로고 디자인"),
    "Brand guide": ("Brand guide", "브랜드 가이드 제작"),
    "Poster": ("Poster design", "포스터 디자인"),
    "Packaging": ("Packaging design", "패키지 디자인"),
    "Icon set": ("Icon set", "아이콘 세트 제작"),
    "Illustration": ("Illustration", "일러스트 작업"),
    "Menu card": ("Menu card design", "메뉴판 디자인"),
    "Web shop": ("Web shop", "쇼핑몰 제작"),
    "Mobile app": ("Mobile app", "모바일 앱 개발"),
    "Chat bot": ("Chat bot", "챗봇 개발"),
    "Data pipeline": ("Data pipeline", "데이터 파이프라인 구축"),
    "Automation": ("Office automation", "업무 자동화"),
    "API": ("API development", "API 개발"),
    "Game prototype": ("Game prototype", "게임 프로토타입 개발"),
    "Contract": ("Contract translation", "계약서 번역"),
    "Subtitles": ("Subtitle translation", "자막 번역"),
    "Thesis": ("Thesis translation", "논문 번역"),
    "Product manual": ("Manual translation", "제품 설명서 번역"),
    "Web site": ("Web site translation", "웹사이트 번역"),
    "Novel": ("Novel translation", "소설 번역"),
    "Patent": ("Patent translation", "특허 번역"),
    "Piano": ("Piano lessons", "피아노 레슨"),
    "English": ("English lessons", "영어 회화 레슨"),
    "Mathematics": ("Mathematics lessons", "수학 과외"),
    "Drawing": ("Drawing lessons", "드로잉 레슨"),
    "Korean": ("Korean lessons", "한국어 레슨"),
    "Yoga": ("Yoga lessons", "요가 레슨"),
    "Python": ("Python lessons", "파이썬 레슨"),
    "Wedding film": ("Wedding film", "웨딩 영상 촬영"),
    "Short clip": ("Short clip", "숏폼 영상 제작"),
    "Motion graphic": ("Motion graphic", "모션 그래픽 제작"),
    "Vlog edit": ("Vlog editing", "브이로그 편집"),
    "Product film": ("Product film", "제품 홍보 영상 제작"),
    "Colour grading": ("Colour grading", "영상 색보정"),
    "Jingle": ("Jingle", "CM송 제작"),
    "Mix and master": ("Mixing and mastering", "믹싱과 마스터링"),
    "Vocal guide": ("Guide vocals", "가이드 보컬 녹음"),
    "Film score": ("Film score", "영상 음악 작곡"),
    "Beat": ("Beat making", "비트 메이킹"),
    "Podcast edit": ("Podcast editing", "팟캐스트 편집"),
    "Search advert": ("Search advertising", "검색 광고 운영"),
    "Blog series": ("Blog series", "블로그 연재"),
    "Social media plan": ("Social media plan", "SNS 운영 기획"),
    "Newsletter": ("Newsletter", "뉴스레터 제작"),
    "Market study": ("Market study", "시장 조사"),
    "Cover letter": ("Cover letter", "자기소개서 첨삭"),
    "Speech": ("Speech writing", "연설문 작성"),
    "Press release": ("Press release", "보도자료 작성"),
    "Product text": ("Product text", "상품 소개글 작성"),
    "Script": ("Script writing", "영상 대본 작성"),
    "Letter": ("Letter writing", "편지 대필"),
}
AUDIENCES = {  # eight of each trade
    "design": (
        "cafés",
        "start-ups",
        "small shops",
        "students",
        "couples",
        "creators",
        "restaurants",
        "teams",
    ),
    "programming": (
        "cafés",
        "start-ups",
        "small shops",
        "schools",
        "clinics",
        "creators",
        "restaurants",
        "teams",
    ),
    "translation": (
        "law firms",
        "start-ups",
        "small shops",
        "students",
        "authors",
        "creators",
        "museums",
        "teams",
    ),
    "lessons": (
        "beginners",
        "office workers",
        "children",
        "students",
        "families",
        "seniors",
        "couples",
        "teams",
    ),
    "video": ("cafés", "start-ups", "small shops", "couples", "families", "creators", "restaurants", "teams"),
    "music": ("cafés", "start-ups", "small shops", "students", "couples", "creators", "podcasters", "bands"),
    "marketing": (
        "cafés",
        "start-ups",
        "small shops",
        "schools",
        "clinics",
        "creators",
        "restaurants",
        "teams",
    ),
    "writing": (
        "job seekers",
        "start-ups",
        "small shops",
        "students",
        "families",
        "creators",
        "authors",
        "teams",
    ),
}
KOREAN = {
    "authors": "작가를",
    "bands": "밴드를",
    "beginners": "초보자를",
    "cafés": "카페를",
    "children": "아이를",
    "clinics": "병원을",
    "couples": "커플을",
    "creators": "크리에이터를",
    "families": "가족을",
    "job seekers": "취업 준비생을",
    "law firms": "로펌을",
    "museums": "박물관을",
    "office workers": "직장인을",
    "podcasters": "팟캐스터를",
    "restaurants": "음식점을",
    "schools": "학교를",
    "seniors": "시니어를",
    "small shops": "소상공인을",
    "start-ups": "스타트업을",
    "students": "학생을",
    "teams": "팀을",
}
PACKAGES = (("", ""), (", deluxe", " 디럭스"), (", premium", " 프리미엄"), (", light", " 라이트"))
TEXTS = {
    "design": (
        "Three drafts, two rounds of changes, and the source files in the end.",
        "시안 3종과 수정 2회, 마지막에는 원본 파일까지 드립니다.",
    ),
    "programming": (
        "We talk the plan over first. You get the code with tests, and a month of repairs.",
        "먼저 기획을 함께 정리합니다. 테스트를 갖춘 코드와 한 달간의 하자 보수를 드립니다.",
    ),
    "translation": (
        "Translated by a specialist and read again by a second one. Delivered in your layout.",
        "전공 번역가가 옮기고 다른 번역가가 감수합니다. 원문 서식 그대로 납품합니다.",
    ),
    "lessons": (
        "One to one, online or near you. The first hour is for finding out where you stand.",
        "일대일로, 온라인이나 가까운 곳에서 진행합니다. 첫 시간에 수준을 함께 확인합니다.",
    ),
    "video": (
        "Planning, filming and editing from one hand, with music that may be used.",
        "기획부터 촬영, 편집까지 한 번에 맡기세요. 음악은 저작권 걱정 없이 씁니다.",
    ),
    "music": (
        "Recorded in our own studio. You hear a sketch before the work begins.",
        "전용 스튜디오에서 녹음합니다. 작업 전에 샘플을 먼저 들려드립니다.",
    ),
    "marketing": (
        "A plan for four weeks, with figures that show what came of it.",
        "4주 계획으로 진행하고, 성과는 숫자로 보고드립니다.",
    ),
    "writing": (
        "A talk by telephone, a draft within three days, and as many changes as it takes.",
        "전화로 이야기를 듣고 3일 안에 초안을 드립니다. 만족하실 때까지 고칩니다.",
    ),
}


def title_of(craft: str, audience: str, earlier: int) -> str:
    """``English · 한국어``; ``earlier`` offers are the same but for their package, which tells them apart."""
    english, korean = CRAFTS[craft]
    number = earlier // len(PACKAGES)
    more, more_ko = PACKAGES[earlier % len(PACKAGES)]
    again = f" {number + 1}" if number else ""
    return f"{english} for {audience}{more}{again} · {KOREAN[audience]} 위한 {korean}{more_ko}{again}"


def text_of(trade: str) -> str:
    """A description in English, and after an empty line in Korean."""
    return "\n\n".join(TEXTS[trade])
