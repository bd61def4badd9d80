"""HEAD is the answer of a GET without its content, for every path for programs that takes a GET."""

from __future__ import annotations

from pathlib import Path

import httpx2
from agents_client import opened
from wire_server import KEY, serve

VARIES = ("date", "x-request-id", "transfer-encoding")


def test_the_head_of_what_is_read(tmp_path: Path) -> None:
    with serve(tmp_path / "a.db") as server, server.client() as client:
        session = opened(client, "hi").id
        response = client.responses.create(model="scripted", input="hi").id
        key = {"authorization": f"Bearer {KEY}"}
        with httpx2.Client(base_url=server.url, headers=key, timeout=20) as http:
            for path in (
                "/v1/models",
                "/openai/v1/models/scripted",
                f"/v1/responses/{response}",
                f"/v1/responses/{response}?stream=true",
                f"/v1/responses/{response}/input_items",
                f"/v1/agents/sessions/{session}",
                f"/v1/agents/sessions/{session}/items",
                "/v1/responses/resp_none_1",
                "/v1/nowhere",
                "/v1/models?x=1",
                "/admin/v1/sessions",
                "/admin/v1/metrics",
                f"/admin/v1/sessions/{session}/export",
                "/health",
                "/version",
                "/docs",
                "/openapi.json",
            ):
                whole, head = http.get(path), http.head(path)
                assert (head.status_code, head.content) == (whole.status_code, b""), path
                told = {name: value for name, value in whole.headers.items() if name not in VARIES}
                size = ("content-length",) if path in ("/admin/v1/metrics",) else ()  # it counts requests
                for name in told.keys() - {*size}:
                    assert head.headers.get(name) == told[name], (path, name)
            # one that has no end by itself
            endless = http.head(f"/v1/agents/sessions/{session}/events")
            assert (endless.status_code, endless.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert http.get("/v1/models").status_code == 200, "the connection goes on"
            for method, path in (("HEAD", "/v1/conversations"), ("OPTIONS", "/v1/models")):
                odd = http.request(method, path)
                allowed = "POST" if path == "/v1/conversations" else "GET, HEAD"
                assert (odd.status_code, odd.headers["allow"]) == (405, allowed)
        assert httpx2.head(f"{server.url}/v1/models").status_code == 401
