"""WebShop as a web site: the pages of the text environment with links and forms that work in a browser.

The server keeps nothing: an address holds the goal's number, the search, the page, the product and its options, so
going back, reloading and opening two tabs do what one expects. `/12` is the search page of goal 12; buying leads to a
page that shows the reward in an element with the id `reward`. Nothing is loaded from other hosts but product pictures.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode

from palaestra.envs.errors import BadInput, MissingExtra
from palaestra.envs.serving.guard import Guard, is_loopback
from palaestra.envs.webshop.markup import html
from palaestra.envs.webshop.pages import SUB_PAGES, ItemPage, Page, ResultsPage, SubPage
from palaestra.envs.webshop.session import View, Visit, enter, show
from palaestra.envs.webshop.shop import Shop

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LONGEST_SEARCH = 4000
"""Characters; addresses hold the search."""

_LAST_PAGE = 1_000_000

STYLE = """\
body { font-family: sans-serif; margin: 1.5em auto; max-width: 60em; padding: 0 1em; color: #222 }
#instruction-text { border: 2px solid #777; border-radius: 12px; padding: 0 1em; margin-bottom: 1em }
.btn { padding: .4em 1em; border: 1px solid #468; border-radius: 1em; background: #eef4fa; cursor: pointer }
.purchase { background: #fc6 }
.top-buffer { margin-top: .6em }
.list-group-item { display: flex; gap: 1em; border-top: 1px solid #ccc; padding: .6em 0 }
.list-group { padding: 0 }
img { max-width: 14em; max-height: 14em }
.radio-toolbar input { position: absolute; opacity: 0 }
.radio-toolbar label { display: inline-block; border: 1px solid #777; padding: .3em .6em; margin: .15em }
.radio-toolbar input:checked + label { background: #fe9 }
.radio-toolbar input:focus + label { outline: 2px solid #468 }
pre { white-space: pre-line }
"""

SCRIPT = """\
for (const option of document.querySelectorAll('input[type="radio"][data-url]'))
  option.addEventListener("click", () => { window.location.href = option.dataset.url; });
"""


class WebSite:
    """Addresses of the web site. See `markup.Site`."""

    def head(self, page: Page) -> str:
        return (
            '    <meta charset="utf-8">\n    <meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "    <title>WebShop</title>\n"
            '    <link rel="stylesheet" href="/static/style.css">\n    <link rel="icon" href="data:,">\n'
        )

    def script(self, page: ItemPage) -> str:
        return '  <script src="/static/shop.js"></script>\n'

    def checked(self, page: ItemPage, option: str, value: str) -> str:
        return " checked" if page.chosen.get(option) == value else ""

    def index(self, page: Page) -> str:
        return f"/{page.session}"

    def results(self, page: ResultsPage | ItemPage, number: int) -> str:
        return f"/search_results/{page.session}?" + urlencode({"keywords": " ".join(page.keywords), "page": number})

    def item(self, page: ResultsPage | ItemPage | SubPage, asin: str, chosen: Mapping[str, str]) -> str:
        return f"/item_page/{page.session}/{quote(asin)}?{_where(page, chosen)}"

    def sub_page(self, page: ItemPage, topic: str) -> str:
        return f"/item_sub_page/{page.session}/{quote(page.product.asin)}/{topic}?{_where(page, page.chosen)}"

    def done(self, page: ItemPage) -> str:
        return f"/done/{page.session}/{quote(page.product.asin)}?{_where(page, page.chosen)}"


def _where(page: ResultsPage | ItemPage | SubPage, chosen: Mapping[str, str]) -> str:
    values = {"keywords": " ".join(page.keywords), "page": page.number, "options": json.dumps(dict(chosen))}
    return urlencode(values)


class _NotThere(Exception):
    """The address names something that the shop does not have."""


def application(shop: Shop) -> Starlette:
    """The web site as an ASGI application.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.requests import Request  # noqa: F401
        from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
        from starlette.routing import Route
    except ModuleNotFoundError:
        raise MissingExtra("Starlette (serving pages)", "serve") from None

    async def home(request: Request) -> Response:
        return RedirectResponse("/0", status_code=303)

    async def index(request: Request) -> Response:
        visit = _visit(request, shop)
        words = await _typed(request)
        if words:
            query = urlencode({"keywords": words, "page": 1})
            return RedirectResponse(f"/search_results/{visit.goal}?{query}", status_code=303)
        return HTMLResponse(html(show(visit, shop), WebSite()))

    async def page(request: Request) -> Response:
        return HTMLResponse(html(show(_visit(request, shop), shop), WebSite()))

    async def static(request: Request) -> Response:
        known = {"style.css": (STYLE, "text/css"), "shop.js": (SCRIPT, "text/javascript")}
        if request.path_params["name"] not in known:
            raise _NotThere(f"there is no {request.url.path}")
        text, kind = known[request.path_params["name"]]
        return Response(text, media_type=kind)

    async def not_there(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", status_code=404)

    both = ["GET", "POST"]
    return Starlette(
        routes=[
            Route("/", home),
            Route("/static/{name}", static),
            Route("/search_results/{session}", page, methods=both, name="search_results"),
            Route("/item_page/{session}/{asin}", page, methods=both, name="item_page"),
            Route("/item_sub_page/{session}/{asin}/{topic}", page, methods=both, name="item_sub_page"),
            Route("/done/{session}/{asin}", page, methods=both, name="done"),
            Route("/{session}", index, methods=both),
        ],
        exception_handlers={_NotThere: not_there},
    )


async def _typed(request: Request) -> str:
    """What was typed into the search bar, or nothing."""
    if request.method != "POST":
        return ""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > 12 * LONGEST_SEARCH:  # a letter takes up to 12 characters in a form
            raise _NotThere(f"a search has at most {LONGEST_SEARCH} characters")
    return parse_qs(content.decode("ascii", "replace")).get("search_query", [""])[0].lower()


def _visit(request: Request, shop: Shop) -> Visit:
    """The visit that an address stands for. Raises _NotThere, with the reason, for one that was not made here."""
    session, path, query = request.path_params["session"], request.url.path, request.query_params
    if not (session.isascii() and session.isdigit()) or len(session) > 9 or int(session) >= shop.goal_count:
        raise _NotThere(f"there is no goal {session[:40]!r}; the goals are 0 to {shop.goal_count - 1}")
    visit = enter(int(session))
    kind = path.split("/")[1]
    if kind not in (View.RESULTS, View.ITEM, View.SUB, View.DONE):
        return visit
    visit.view = View(kind)
    words, number = query.get("keywords", ""), query.get("page", "1")
    if not words or len(words) > LONGEST_SEARCH:
        raise _NotThere(f"the address needs the words of a search, 1 to {LONGEST_SEARCH} characters")
    if not (number.isascii() and number.isdigit()) or int(number[:9]) > _LAST_PAGE or len(number) > 9:
        raise _NotThere(f"there is no page {number[:40]!r}")
    visit.keywords, visit.number = tuple(words.split(" ")), int(number)
    if shop.find(visit.keywords, 0, 0) is None:
        raise _NotThere(f"a search that begins with {visit.keywords[0]} needs something behind it")
    if "asin" in request.path_params:
        _choose(visit, request.path_params["asin"], query.get("options", "{}"), shop)
    if visit.view is View.SUB:
        visit.topic = request.path_params["topic"]
        if visit.topic not in SUB_PAGES[: 4 if shop.show_attributes else 3]:
            raise _NotThere(f"a product has no page {visit.topic[:40]!r}")
    if visit.view is View.DONE:
        visit.reward = shop.reward(visit.goal, visit.asin, visit.options).total
    return visit


def _choose(visit: Visit, asin: str, written: str, shop: Shop) -> None:
    if not shop.has(asin):
        raise _NotThere(f"there is no product {asin[:40]!r}")
    offered = shop.product(asin).options
    try:
        chosen = json.loads(written)
    except (ValueError, RecursionError):
        chosen = None
    if not isinstance(chosen, dict) or any(value not in offered.get(name, ()) for name, value in chosen.items()):
        raise _NotThere(f"the product {asin} does not have these options")
    visit.asin, visit.options = asin, chosen


def serve(shop: Shop, host: str, port: int, told: Callable[[str], None] = print) -> None:
    """Serve the web site until Ctrl-C, to browsers on this machine: they have no token to show.

    Args:
        host: of this machine only (127.0.0.1, localhost, ::1).
        port: 0 takes a free one.
        told: is given the address of the first goal once connections are accepted.

    Raises:
        MissingExtra: Starlette or uvicorn is not installed. BadInput: host or port cannot be used.
    """
    if not is_loopback(host):
        raise BadInput(
            f"--html serves pages on this machine only, since browsers show no token, and {host} is open to the "
            "network; keep 127.0.0.1 and forward its port (ssh -L)"
        )
    served = Guard(application(shop), host, None)
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtra("uvicorn (serving pages)", "serve") from None
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), backlog=128, family=family)
    except (OSError, OverflowError, ValueError) as error:  # the last: a name that no host has
        raise BadInput(f"cannot listen on {host}:{port} ({error}); choose another --host or --port") from None
    with listening:
        at = f"[{host}]" if ":" in host else host
        told(f"http://{at}:{listening.getsockname()[1]}/0")
        uvicorn.Server(uvicorn.Config(served, log_level="warning")).run(sockets=[listening])
