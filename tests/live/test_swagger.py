"""Looks at FastAPI's `/docs` in a real Chromium: what does it show of a stream?

Swagger UI comes from npm here and not, as FastAPI has it, from another host.
"""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from live.conftest import Serve

pytestmark = pytest.mark.live

SWAGGER_UI = Path(__file__).parents[1] / "tools" / "node_modules" / "swagger-ui-dist"
LIMIT_MS = 20_000

PROGRAM = f"""
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from typed_sse.demo.app import router

app = FastAPI(title="Streams", docs_url=None, redoc_url=None)
app.include_router(router)
app.mount("/swagger", StaticFiles(directory={str(SWAGGER_UI)!r}))


@app.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Streams",
        swagger_js_url="/swagger/swagger-ui-bundle.js",
        swagger_css_url="/swagger/swagger-ui.css",
        swagger_favicon_url="/swagger/favicon-32x32.png",
        swagger_ui_parameters={{"docExpansion": "full"}},
    )
"""
EVENTS = {
    "/sse2": {"echo": "EchoPayload"},
    "/sse3": {"echo": "EchoPayload", "reverse_echo": "EchoPayload"},
    "/job": {"progress": "JobStep", "finished": "JobResult"},
    "/chat": {"token": "TokenPayload", "done": "Usage"},
}


def operation_of(page: Page, path: str) -> Locator:
    return page.locator(".opblock", has=page.locator(f'[data-path="{path}"]'))


def test_the_docs_show_the_events_of_each_stream(
    serve: Serve, browser: Browser, tmp_path: Path
) -> None:
    url, _ = serve(PROGRAM)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/docs")
    page.set_default_timeout(LIMIT_MS)
    for path, events in EVENTS.items():
        operation = operation_of(page, path)
        rows = operation.locator(".opblock-description tbody tr")
        expect(rows).to_have_count(len(events) + 1)
        for row, (name, payload) in zip(rows.all(), events.items(), strict=False):
            expect(row.locator("td").nth(0)).to_have_text(name)
            expect(row.locator("td").nth(1)).to_have_text(payload)
        expect(rows.last.locator("td").first).to_have_text("stream.error")
        wire = operation.locator(".opblock-description pre")
        for name in events:
            expect(wire).to_contain_text(f"event: {name}\n")
        expect(operation.locator(".responses-table select").first).to_have_value(
            "text/event-stream"
        )
        example = operation.locator(".responses-table .highlight-code, .responses-table .example")
        expect(example.first).to_contain_text("{")
    job = operation_of(page, "/job")
    job.get_by_role("tab", name="Schema").first.click()
    job.get_by_role("button", name="Expand all").first.click()
    for payload in ("JobStep", "JobResult", "ErrorInfo"):
        expect(job.locator(".responses-table")).to_contain_text(payload)
    job.screenshot(path=tmp_path / "swagger.png")
    assert {address for address in asked if not address.startswith((url, "data:"))} == set()
    page.close()
