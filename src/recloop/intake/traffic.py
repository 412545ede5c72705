"""Who is no customer: machines by what they call themselves, and colleagues by network or pseudonym.

Such acts are kept with a flag, and nothing learns from them.
"""

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address, ip_network

from recloop.schema import Traffic

CRAWLER = re.compile(
    r"(?<!cu)bot\b|crawl|spider|slurp|headless|lighthouse|facebookexternalhit|preview|monitor|scanner|phantomjs"
    r"|puppeteer|playwright|selenium|pingdom|feedfetcher",
    re.IGNORECASE,
)
TOOL = re.compile(
    r"-?$|(curl|wget|python|aiohttp|go-http|java|okhttp|libwww|ruby|axios|node|php|httpie|postman|perl)\b",
    re.IGNORECASE,
)


class Rules:
    """``internal``: networks (``10.0.0.0/8``) and patterns of pseudonyms (``qa-*``), parted by commas.

    Raises:
        ValueError: a network that is none.
    """

    def __init__(self, internal: str = "") -> None:
        words = [word.strip() for word in internal.split(",") if word.strip()]
        self._networks = [ip_network(word) for word in words if "/" in word]
        self._people = [word for word in words if "/" not in word]

    def of_sender(self, agent: str, address: str, direct: bool = False) -> Traffic | None:
        """What a sender's User-Agent and address say; ``direct``: a person's own browser should have sent it.

        A marketplace's server that passes acts on is no bot, whatever its client library is called.
        """
        if self._networks and self._is_internal(address):
            return Traffic.INTERNAL
        return Traffic.BOT if _is_bot(agent, direct) else None

    def of_person(self, user_id: str) -> Traffic | None:
        """What the pseudonym says."""
        inside = self._people and any(fnmatchcase(user_id, pattern) for pattern in self._people)
        return Traffic.INTERNAL if inside else None

    def _is_internal(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found  # as a socket for both versions tells it
        return any(found in network for network in self._networks)


@lru_cache(4096)
def _is_bot(agent: str, direct: bool) -> bool:
    return bool(CRAWLER.search(agent) or (direct and TOOL.match(agent)))
