"""The page at / and what it needs: the files of ``static/``, as they were when the service started."""

from __future__ import annotations

import hashlib
from pathlib import PurePath

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from zhsenti.core.paths import package_file

STATIC = package_file("zhsenti.serving", "static")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}


def add_page(app: FastAPI) -> None:
    """Add the routes of the page to ``app``. Files are read once: no path of a client's ever reaches the disk."""
    files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in TYPES}

    def send(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        tag = f'"{hashlib.sha256(files[name]).hexdigest()[:32]}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag, "Content-Type": TYPES[PurePath(name).suffix]}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(files[name], headers=headers)

    async def page(request: Request) -> Response:
        return send(request, "index.html")

    async def static(request: Request) -> Response:
        return send(request, request.path_params["name"])

    app.add_route("/", page, methods=["GET"], include_in_schema=False)
    app.add_route("/static/{name}", static, methods=["GET"], include_in_schema=False)
