"""The peer of the slot: a bare Starlette app with msgspec around the same policy and the same store.

    python -m benchmarks.plain_slot POLICY STORE_URL PORT

No tokens, no limits, no checks beyond types, no request ids, no log, no metrics: what one would write first.
"""

import gc
import sys
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recloop.policy import load
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender


class Question(msgspec.Struct):
    user_id: str
    k: int | None = None


def create(folder: Path, store_url: str) -> Starlette:
    """The app."""
    recommender, decoder = Recommender(load(folder), Past(store_url)), msgspec.json.Decoder(Question)

    async def recommend(request: Request) -> Response:
        wanted = decoder.decode(await request.body())
        slate, _ = recommender.recommend("request", wanted.user_id, k=wanted.k)
        return Response(msgspec.json.encode(slate.__dict__), media_type="application/json")

    async def ready(_: Request) -> Response:
        return Response()

    return Starlette(routes=[Route("/recommend", recommend, methods=["POST"]), Route("/readyz", ready)])


if __name__ == "__main__":
    app = create(Path(sys.argv[1]), sys.argv[2])
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    uvicorn.run(
        app, port=int(sys.argv[3]), access_log=False, log_level="warning", loop="uvloop", http="httptools"
    )
