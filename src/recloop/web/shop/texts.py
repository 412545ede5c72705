"""What the shop says: English and Korean side by side, so that neither can lack a sentence."""

WORDS: dict[str, tuple[str, str]] = {
    # the frame of every page
    "name": ("recloop market", "recloop 마켓"),
    "tagline": ("Talents who make, teach and mend", "만들고, 가르치고, 고치는 재능을 만나 보세요"),
    "skip": ("Skip to the content", "본문으로 건너뛰기"),
    "search": ("Search", "검색"),
    "search_hint": ("What do you need done?", "어떤 재능을 찾으세요?"),
    "cart": ("Cart", "장바구니"),
    "privacy": ("Privacy", "내 정보"),
    "main_menu": ("Main menu", "주요 메뉴"),
    "categories": ("Categories", "카테고리"),
    "footer": (
        "A demonstration shop: nothing is delivered, and nobody asks for a payment.",
        "시연용 마켓입니다. 실제로 결제하거나 작업을 제공하지 않습니다.",
    ),
    "busy_title": ("One moment, please", "잠시만 기다려 주세요"),
    "busy": (
        "The shop is busy. Please load the page again in a moment.",
        "지금은 이용이 많아요. 잠시 후 다시 열어 주세요.",
    ),
    "sorry_title": ("That did not work", "처리하지 못했어요"),
    "sorry": (
        "Nothing was changed. The page may be old, or the item no longer offered: go back, load the page"
        " again and try once more.",
        "아무것도 바뀌지 않았어요. 오래된 페이지이거나 더 이상 제공하지 않는 항목일 수 있으니, 이전 페이지를"
        " 새로 고친 뒤 다시 시도해 주세요.",
    ),
    "back_home": ("To the start page", "처음으로"),
    # consent
    "consent_title": ("First, your choice", "먼저 선택해 주세요"),
    "consent_text": (
        "The shop works whatever you choose, and you can change it at any time. Without the first"
        " nothing that you do is kept.",
        "무엇을 고르셔도 이용할 수 있고, 언제든지 바꿀 수 있습니다. 첫 번째에 동의하지 않으시면 행동 기록을"
        " 보관하지 않습니다.",
    ),
    "service": (
        "Keep what I am shown and what I do here, under a pseudonym",
        "보여 드린 항목과 제 행동을 가명으로 보관하는 데 동의합니다",
    ),
    "personalisation": (
        "Let that and my profile decide what I am shown (needs the first)",
        "그 기록과 프로필을 제 맞춤 추천에 쓰는 데 동의합니다 (첫 번째 필요)",
    ),
    "training": (
        "Let the suggestions for everybody learn from it",
        "모두를 위한 추천의 학습에 쓰는 데 동의합니다",
    ),
    "marketing": ("Use it to send me offers", "광고성 정보를 보내는 데 쓰는 데 동의합니다"),
    "consent_save": ("Save my choice", "선택 저장"),
    "consent_none": ("No to all of it", "모두 동의하지 않음"),
    "purpose_service": ("Service", "서비스 이용 기록"),
    "purpose_personalisation": ("Personalisation", "맞춤 추천"),
    "purpose_training": ("Training", "추천 학습"),
    "purpose_marketing": ("Marketing", "마케팅"),
    "said_yes": ("You said yes on {day}, to version {version}.", "{day}에 동의하셨습니다 (버전 {version})."),
    "said_no": ("You said no on {day}, to version {version}.", "{day}에 거부하셨습니다 (버전 {version})."),
    "said_nothing": (
        "You have not said anything yet: that counts as no.",
        "아직 선택하지 않으셨습니다. 동의하지 않은 것으로 봅니다.",
    ),
    "outdated": (
        "The text has changed since then (version {version}), so your yes holds no more.",
        "그 뒤 내용이 바뀌어(버전 {version}) 이전 동의는 더 이상 유효하지 않습니다.",
    ),
    "saved": ("Your choice is saved.", "선택을 저장했습니다."),
    "privacy_title": ("Your data, your choice", "내 정보와 동의 관리"),
    "privacy_text": (
        "Each purpose stands for itself. Taking a yes back is as easy as giving it.",
        "목적마다 따로 고를 수 있고, 동의를 거두는 것도 동의하는 것만큼 쉽습니다.",
    ),
    "purposes": ("What it may be used for", "이용 목적별 동의"),
    # personal or not
    "switch_title": ("Personal or the same for everybody", "맞춤 추천 켜고 끄기"),
    "switch_off": ("Turn personalisation off", "맞춤 추천 끄기"),
    "switch_on": ("Turn personalisation on", "맞춤 추천 켜기"),
    "switch_needs": (
        "Personal suggestions need your consent to the service first.",
        "맞춤 추천을 켜려면 먼저 서비스 이용 기록에 동의해 주세요.",
    ),
    "personal_badge": ("Personal", "맞춤 추천"),
    "anonymous_badge": ("Not personalised", "비맞춤 추천"),
    "personal": ("Chosen with what you did here in mind", "내 활동을 반영해 골랐어요"),
    "cold": (
        "Personal, but we do not know your taste yet: have a look around",
        "아직 취향을 몰라요. 둘러보시면 곧 맞춰 드릴게요",
    ),
    "anonymous": ("Chosen without looking at you", "내 활동을 보지 않고 골랐어요"),
    "fallback": (
        "What most people like: the recommender is taking a breath.",
        "추천이 잠시 쉬는 동안 가장 인기 있는 재능을 보여 드려요.",
    ),
    # home
    "for_you": ("For you now", "지금 추천하는 재능"),
    "for_all": ("Worth a look", "둘러볼 만한 재능"),
    "popular": ("What most people like", "지금 인기 있는 재능"),
    "popular_note": ("The same for everybody", "모두에게 똑같이 보여 드려요"),
    "more": ("Show me others", "다른 추천 보기"),
    "empty": ("There is nothing on offer yet.", "아직 등록된 재능이 없어요."),
    "dismiss": ("Not interested", "관심 없어요"),
    "dismissed": ("“{title}” will not be shown again.", "‘{title}’ 항목을 더는 보여 드리지 않을게요."),
    "failed": ("That did not work. Please try again.", "처리하지 못했어요. 다시 시도해 주세요."),
    "why": ("Why this?", "왜 이 항목인가요?"),
    # browsing
    "results": ("Results for “{words}”", "‘{words}’ 검색 결과"),
    "all": ("Everything", "전체 보기"),
    "nothing": ("Nothing was found.", "찾으시는 재능이 없어요."),
    "nothing_hint": (
        "Try fewer or shorter words, or look around in the categories.",
        "검색어를 줄이거나 짧게 바꿔 보시고, 카테고리도 둘러보세요.",
    ),
    "next_page": ("Next page", "다음 페이지"),
    "first_page": ("First page", "첫 페이지"),
    "pages": ("Pages", "페이지 이동"),
    "gone_title": ("This is not here any more", "찾을 수 없는 페이지예요"),
    "gone": ("Perhaps it is no longer offered.", "더 이상 제공하지 않는 항목일 수 있어요."),
    # an item
    "price": ("Price", "가격"),
    "no_price": ("Price on request", "가격 협의"),
    "won": ("₩{amount}", "{amount}원"),
    "unavailable": ("Not available now", "지금은 이용할 수 없어요"),
    "stars_given": ("Rated {stars} of 5 so far", "평점 5점 만점에 {stars}점"),
    "about": ("About this", "상세 설명"),
    "no_text": ("Nobody has written more about this yet.", "아직 등록된 설명이 없어요."),
    "add": ("Add to cart", "장바구니에 담기"),
    "added": ("In your cart", "장바구니에 담긴 재능"),
    "related": ("More like this", "비슷한 재능"),
    "rate": ("Your rating", "내 평점"),
    "rate_star": ("{stars} of 5 stars", "5점 중 {stars}점"),
    "rated": ("You gave {stars} of 5 stars.", "5점 중 {stars}점을 주셨어요."),
    "rate_needs": (
        "A rating can only be kept if you agree to the service.",
        "평점을 남기려면 서비스 이용 기록에 동의해 주세요.",
    ),
    "to_privacy": ("Change that", "바꾸기"),
    # cart and order
    "cart_empty": ("Your cart is empty.", "장바구니가 비어 있어요."),
    "sold_out": ("It will not be part of the order.", "주문에서 빠집니다."),
    "cart_changed": (
        "Nothing was ordered: the cart, or what is in it, has changed meanwhile. Please look, and order"
        " again.",
        "아직 주문하지 않았어요. 그 사이 장바구니나 재능의 내용이 바뀌었으니 확인한 뒤 다시 주문해 주세요.",
    ),
    "cart_full": (
        "A cart holds {most} items: order some of them, or remove one first.",
        "장바구니에는 {most}개까지 담을 수 있어요. 먼저 주문하시거나 하나를 빼 주세요.",
    ),
    "remove": ("Remove", "빼기"),
    "remove_what": ("Remove {title}", "{title} 빼기"),
    "total": ("Total", "합계"),
    "some_open": ("plus what has its price on request", "가격 협의 항목 별도"),
    "order": ("Order (without payment)", "주문하기 (결제 없음)"),
    "order_kept": (
        "The order is kept under your pseudonym, since you agreed to the service.",
        "서비스 이용 기록에 동의하셔서 주문이 가명으로 보관됩니다.",
    ),
    "order_not_kept": (
        "You can order; nothing of it will be kept, since you did not agree to the service.",
        "주문하실 수 있어요. 서비스 이용 기록에 동의하지 않으셔서 주문 내용은 보관하지 않습니다.",
    ),
    "ordered_title": ("Thank you!", "주문해 주셔서 고맙습니다!"),
    "ordered": (
        "This was a demonstration: no money moved, and no address was asked for.",
        "시연용 주문이라 결제도 배송지도 필요 없었어요.",
    ),
    "ordered_none": ("There is no order of this visit.", "이번 방문에 하신 주문이 없어요."),
    "how_was_it": ("How was it?", "어떠셨나요?"),
    # own data
    "own_data": ("What we know of you", "내 정보 내려받기와 삭제"),
    "nobody": (
        "We know nothing of you: you have made no choice yet, and no pseudonym was given to you.",
        "아직 선택하지 않으셔서 가명도 없고, 보관한 정보도 없습니다.",
    ),
    "export_text": (
        "Everything that is stored under your pseudonym, as a file (JSON).",
        "가명으로 보관한 모든 정보를 파일(JSON)로 드립니다.",
    ),
    "export": ("Download my data", "내 정보 내려받기"),
    "erase_text": (
        "Erases all of it: at once here, and within hours from copies and backups. This cannot be undone.",
        "모두 삭제합니다. 이곳에서는 바로, 사본과 백업에서는 몇 시간 안에 지워지며 되돌릴 수 없습니다.",
    ),
    "erase_sure": ("Yes, erase everything", "네, 모두 삭제합니다"),
    "erase": ("Erase my data", "내 정보 삭제"),
    "erase_unsure": ("Please tick the box first.", "먼저 확인란에 표시해 주세요."),
    "erased_title": ("Your data is erased", "내 정보를 삭제했습니다"),
    "erased": (
        "Nothing of you is used any more. This is the receipt's number, under which anybody can look up how"
        " far it has come:",
        "이제 아무 정보도 이용하지 않습니다. 아래 접수 번호로 처리 상태를 확인할 수 있습니다.",
    ),
    "cookies": ("Cookies of this shop", "이 마켓이 쓰는 쿠키"),
    "cookie_name": ("Name", "이름"),
    "cookie_what": ("What for", "용도"),
    "cookie_long": ("How long", "보관 기간"),
    "cookie_person": (
        "Your pseudonym, random; set with your choice, so that it is remembered",
        "임의로 만든 가명. 선택을 저장하실 때 만들어 선택을 기억합니다",
    ),
    "cookie_cart": ("What you put into the cart", "장바구니에 담으신 항목"),
    "cookie_order": (
        "What you ordered just now, for the page that says so",
        "방금 주문하신 항목을 확인 화면에 보여 드리기 위함",
    ),
    "cookie_hidden": ("What you do not want to see in this visit", "이번 방문에 보고 싶지 않다고 하신 항목"),
    "cookie_seen": (
        "Which suggestions you saw last; only if you agreed to the service",
        "최근에 보신 추천의 번호. 서비스 이용 기록에 동의하신 경우에만",
    ),
    "cookie_lang": ("The language that you chose", "고르신 언어"),
    "until_closed": ("Until the browser is closed", "브라우저를 닫을 때까지"),
    "a_year": ("One year", "1년"),
    # trades of the generated marketplace
    "in_design": ("Design", "디자인"),
    "in_programming": ("Programming", "IT·프로그래밍"),
    "in_translation": ("Translation", "번역"),
    "in_lessons": ("Lessons", "레슨"),
    "in_video": ("Video", "영상"),
    "in_music": ("Music", "음악"),
    "in_marketing": ("Marketing", "마케팅"),
    "in_writing": ("Writing", "글쓰기"),
    "in_other": ("Other", "기타"),
}
TEXTS = {code: {name: pair[place] for name, pair in WORDS.items()} for place, code in enumerate(("en", "ko"))}
