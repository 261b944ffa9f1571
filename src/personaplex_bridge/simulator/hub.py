"""As much of the Hugging Face hub as a gate asks: may this token read the model?"""

from __future__ import annotations

from aiohttp import web

CONFIG_PATH = "/nvidia/personaplex-7b-v1/resolve/main/config.json"


def hub(token: str, *, licence_accepted: bool = True) -> web.Application:
    """The application. Other tokens than `token` are unknown (401)."""

    async def config(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {token}":
            return web.Response(status=401)
        return web.json_response({}, status=200 if licence_accepted else 403)

    app = web.Application()
    app.router.add_get(CONFIG_PATH, config)
    return app
