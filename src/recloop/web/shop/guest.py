"""Who looks at a page, and what they agreed to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from recloop.delivery.door import Door
from recloop.store.consent import PERSONALISATION, SERVICE, Word, allowed, words_of
from recloop.web.shop import cookies
from recloop.web.shop.cookies import Line
from recloop.web.shop.texts import TEXTS
from recloop.web.texts import LANGUAGES, language


@dataclass(frozen=True)
class Guest:
    """A visitor.

    Attributes:
        code: of the language, ``en`` or ``ko``; ``other`` and ``there``: the other one, and this page in it.
        person: the pseudonym in the cookie; empty before the first choice.
        name: the same behind the door.
        words: what they said, by purpose.
        chose: False before the first word, and where terms have changed since a yes.
        kept: whether what they are shown and do is stored.
        personal: whether profile and past may decide what they are shown.
        cart: what they put into it.
    """

    code: str
    other: str
    there: str
    person: str = ""
    name: str = ""
    words: Mapping[str, Word] = field(default_factory=dict)
    chose: bool = False
    kept: bool = False
    personal: bool = False
    cart: Sequence[Line] = ()

    @property
    def text(self) -> dict[str, str]:
        """All sentences of their language."""
        return TEXTS[self.code]


async def guest_of(request: Request, door: Door) -> Guest:
    """Who asks.

    Raises:
        SQLAlchemyError: the store cannot be read.
    """
    person = cookies.person_of(request)
    if not person:
        return stranger(request)
    name, words = await run_in_threadpool(_look, door, person)
    may = allowed(words, door.terms, door.assumed) if words else frozenset()
    outdated = any(word.granted and word.version < door.terms[purpose] for purpose, word in words.items())
    return replace(
        stranger(request),
        person=person,
        name=name,
        words=words,
        chose=bool(words) and not outdated,
        kept=SERVICE in may,
        personal=PERSONALISATION in may,
    )


def stranger(request: Request) -> Guest:
    """Somebody of whom nothing is known but what their browser sends."""
    code = language(request)
    other = LANGUAGES[1 - LANGUAGES.index(code)]
    query = {name: value for name, value in request.query_params.items() if name != "lang"} | {"lang": other}
    return Guest(code, other, f"?{urlencode(query)}", cart=cookies.lines_of(request, cookies.CART))


def _look(door: Door, person: str) -> tuple[str, dict[str, Word]]:
    name = door.name(person) or person
    return name, words_of(door.engine, [name]).get(name, {})
