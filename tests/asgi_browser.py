"""A browser without a network: it calls an ASGI application in this process."""

import asyncio
from http.cookies import SimpleCookie
from urllib.parse import urljoin, urlsplit

from tests.simulated_raters import Reply


class AsgiBrowser:
    """Keeps the cookies that it is given, and sends no other."""

    def __init__(
        self, app, root_path: str = "", stripped: bool = True, agent: str = "tests"
    ) -> None:
        self._app, self._root = app, root_path
        self._stripped = stripped
        self._agent = agent
        self.cookies: dict[str, str] = {}
        self._runner = asyncio.Runner()

    def __del__(self) -> None:
        self._runner.close()

    def get(self, path: str, headers=None) -> Reply:
        return self._follow(self.ask("GET", path, headers=headers))

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        return self.ask("POST", path, body, headers)

    def _follow(self, reply: Reply) -> Reply:
        while reply.status in (303, 307):
            reply = self.ask("GET", urlsplit(reply.headers["location"]).path.lstrip("./"))
        return reply

    def ask(self, method: str, path: str, body: bytes = b"", headers=None, raw=None) -> Reply:
        """One request; ``raw`` is a path that is sent as it is."""
        url = urljoin("http://test/", path)
        parts = urlsplit(url)
        sent = {"host": "test", "user-agent": "tests", **(headers or {})}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={text}" for name, text in self.cookies.items())
        prefix = "" if self._stripped else self._root
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": raw if raw is not None else prefix + parts.path,
            "raw_path": (raw or parts.path).encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in sent.items()],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }
        parts_of_body = [body[i : i + 4096] for i in range(0, len(body), 4096)] or [b""]
        return self._runner.run(self._call(scope, parts_of_body))

    async def _call(self, scope, chunks) -> Reply:
        left = list(chunks)
        status, headers, body = 0, {}, b""

        async def receive():
            if not left:
                return {"type": "http.disconnect"}
            chunk = left.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(left)}

        async def send(message):
            nonlocal status, body
            if message["type"] == "http.response.start":
                status = message["status"]
                for name, value in message["headers"]:
                    if name == b"set-cookie":
                        for key, morsel in SimpleCookie(value.decode()).items():
                            self.cookies[key] = morsel.value
                    headers[name.decode()] = value.decode()
            elif message["type"] == "http.response.body":
                body += message.get("body", b"")

        await self._app(scope, receive, send)
        return Reply(status, headers, body)
