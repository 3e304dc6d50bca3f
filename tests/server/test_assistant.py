"""The MCP server through the official client: in memory, over standard input to a real process, and over HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra `serve` is not installed")

from mcp import Client, StdioServerParameters, stdio_client

from baywindow import recipe as recipes
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.memory.memory import Memory
from baywindow.server.assistant import Assistant, make_server

GARDEN = "The beans were sown on 4 May.\n\nIda painted the fence green.\n\nNobody has pruned the apple tree."


def answering(prompt: Any) -> str:
    return "Ida painted it. [1]" if "Ida" in prompt[-1].content else "NOT FOUND"


@pytest.fixture
def assistant(talker, tmp_path: Path) -> Assistant:
    corpus = InMemory([Document(GARDEN, "garden.md")], chunk_tokens=12)
    return Assistant(
        Memory(tmp_path / "memory", "turn_retrieval"), corpus, lambda: talker(answering), recipes.parse("full_text(k=2) > rag")
    )


def through(server: Any, work: Callable[[Client], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Client(server) as client:
            return await work(client)

    return asyncio.run(run())


def call(assistant: Assistant, name: str, **arguments: Any) -> Any:
    return through(make_server(assistant), lambda client: client.call_tool(name, arguments))


def test_all_tools_are_told_with_what_they_do_to_the_world(assistant):
    tools = {tool.name: tool for tool in through(make_server(assistant), lambda client: client.list_tools()).tools}
    assert set(tools) == {"ask", "search_documents", "remember", "recall", "forget"}
    assert all(tool.description and tool.output_schema for tool in tools.values())
    assert [name for name, tool in tools.items() if tool.annotations.destructive_hint] == ["forget"]
    assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == {"ask", "search_documents", "recall"}


def test_without_documents_there_is_nothing_to_ask(tmp_path):
    tools = through(make_server(Assistant(Memory(tmp_path, "turn_retrieval"))), lambda client: client.list_tools()).tools
    assert {tool.name for tool in tools} == {"remember", "recall", "forget"}


def test_a_question_is_answered_with_checked_sources(assistant):
    said = call(assistant, "ask", question="Who painted the fence?").structured_content
    assert (said["answer"], said["found"]) == ("Ida painted it. [1]", True)
    assert said["sources"] == [{"mark": "[1]", "place": "garden.md:3", "quote": "Ida painted the fence green.", "verified": True}]


def test_passages_come_best_first(assistant):
    found = call(assistant, "search_documents", query="pruned apple tree", k=1).structured_content["result"]
    assert found == [{"place": "garden.md:5", "text": "Nobody has pruned the apple tree."}]


def test_what_is_remembered_is_recalled_and_forgotten(assistant):
    async def work(client: Client) -> tuple[Any, ...]:
        kept = await client.call_tool("remember", {"text": "My goat is called Bertha.", "speaker": "Ida"})
        again = await client.call_tool("remember", {"text": "My goat is called Bertha.", "speaker": "Ida"})
        found = await client.call_tool("recall", {"query": "goat"})
        gone = await client.call_tool("forget", {"id": found.structured_content["result"][0]["id"]})
        left = await client.call_tool("recall", {"query": "goat"})
        return tuple(one.structured_content for one in (kept, again, found, gone, left))

    kept, again, found, gone, left = through(make_server(assistant), work)
    assert len(kept["ids"]) == 1
    assert again["ids"] == []
    assert [one["text"] for one in found["result"]] == ["Ida: My goat is called Bertha."]
    assert gone == {"forgotten": 1}
    assert left["result"] == []


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("ask", {"question": ""}, "question"),
        ("ask", {"question": "x" * 4001}, "question"),
        ("search_documents", {"query": "beans", "k": 0}, "k"),
        ("remember", {"text": ""}, "text"),
        ("forget", {"id": "nothing"}, "there is no memory"),
        ("recall", {}, "query"),
    ],
)
def test_bad_arguments_are_an_error_of_the_call(assistant, name, arguments, said):
    result = call(assistant, name, **arguments)
    assert result.is_error
    assert said in result.content[0].text
    assert "Traceback" not in result.content[0].text


def test_a_real_process_over_standard_input(tmp_path):
    """The command itself; a client that closes the pipe ends it."""
    (tmp_path / "garden.md").write_text(GARDEN)
    environment = {**os.environ, "BAY_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "ignore"}
    given = StdioServerParameters(
        command=sys.executable,
        args=["-c", "from baywindow.cli.main import app; app()", "mcp", str(tmp_path / "garden.md"), "--store", str(tmp_path / "memory")],
        env=environment,
    )

    async def work(client: Client) -> Any:
        assert client.server_info.name == "baywindow"
        return await client.call_tool("remember", {"text": "The key lies under the third pot."})

    kept = through(stdio_client(given), work)
    assert not kept.is_error, kept.content
    with Memory(tmp_path / "memory", "turn_retrieval") as memory:
        assert [turn.text for turn in memory.list()] == ["The key lies under the third pot."]


def test_over_http_and_for_this_machine_only(assistant):
    import httpx
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = make_server(assistant).streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        found = through(url, lambda client: client.call_tool("search_documents", {"query": "beans", "k": 1}))
        assert found.structured_content["result"][0]["place"] == "garden.md:1"
        # A page of another site makes the browser name itself, and a rebound name shows in Host.
        for headers in ({"origin": "https://elsewhere.example"}, {"host": "elsewhere.example"}):
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            sent = {"accept": "application/json, text/event-stream", **headers}
            assert httpx.post(url, json=body, headers=sent, trust_env=False).status_code in (403, 421)
    finally:
        server.should_exit = True
        thread.join(20)
