"""The API against its own OpenAPI document: whatever is sent, no answer is a fault of the server's."""

from __future__ import annotations

import json

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (extra `dev`)")

import hypothesis  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from baywindow.config import Settings  # noqa: E402
from baywindow.server.app import make_app  # noqa: E402
from baywindow.server.service import Options, Service  # noqa: E402

CASES = 8  # of each operation


def probe(client, operation, tried):
    """Send what the description allows, and what hypothesis makes of it."""
    name = f"{operation.method.upper()} {operation.path}"
    allowed = {"max_examples": CASES, "deadline": None, "database": None, "derandomize": True}

    @hypothesis.settings(**allowed, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=operation.as_strategy())
    def send(case):
        request = case.as_transport_kwargs(base_url="http://127.0.0.1")
        headers = dict(request.pop("headers", None) or {})
        request.pop("cookies", None)
        reply = client.request(**request, headers={k: v for k, v in headers.items() if k.lower() not in ("host", "origin")})
        tried[name] = tried.get(name, 0) + 1
        assert reply.status_code < 500, (name, reply.status_code, reply.text)
        if reply.status_code >= 400:
            assert set(json.loads(reply.text)["error"]) == {"message", "type", "param", "code", "hint"}

    send()


@pytest.mark.slow
def test_no_request_of_its_own_description_is_a_fault(talker, tmp_path):
    service = Service(Settings(), Options(), model=talker(), home=tmp_path)
    app = make_app(service)
    tried: dict[str, int] = {}
    with TestClient(app, base_url="http://127.0.0.1") as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        for operation in (result.ok() for result in schema.get_all_operations()):
            probe(client, operation, tried)
    assert len(tried) >= 20
