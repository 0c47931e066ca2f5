"""HTML of the pages: the observation mode `html`, and what a browser is served.

The mode `html` promises the original's markup to the letter, because agents were trained on it: its tags, classes,
blank lines and slips (an `h4` closed as `h5`) are an interface like the words on the pages. That markup is WebShop's
(github.com/princeton-nlp/WebShop), MIT License, Copyright (c) 2023 Princeton Natural Language Processing; its notice
stands in `LICENSE.WebShop` beside this file. How it is put together here is our own.

A `Site` says what differs between the text environment and a server for browsers: addresses, head and script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote_plus, urlencode

from palaestra.envs.webshop.pages import (
    BACK,
    BUY,
    NEXT,
    PREVIOUS,
    DonePage,
    IndexPage,
    ItemPage,
    Page,
    ResultsPage,
    SubPage,
    script_json,
)

_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ('"', "&#34;"))


def escape(value: object) -> str:
    """A text for use between tags or in an attribute with double quotes."""
    text = str(value)
    for letter, escaped in _ESCAPES:
        text = text.replace(letter, escaped)
    return text


class Site(Protocol):
    """Addresses of pages, and what stands around them. Addresses are not escaped yet."""

    def head(self, page: Page) -> str:
        """The lines of `<head>`."""

    def script(self, page: ItemPage) -> str:
        """What follows the body of a product's page."""

    def checked(self, page: ItemPage, option: str, value: str) -> str:
        """Further attributes of the radio button of an option's value."""

    def index(self, page: Page) -> str:
        """The search page."""

    def results(self, page: ResultsPage | ItemPage, number: int) -> str:
        """A page of results of the same search."""

    def item(self, page: ResultsPage | ItemPage | SubPage, asin: str, chosen: Mapping[str, str]) -> str:
        """A product with these options chosen."""

    def sub_page(self, page: ItemPage, topic: str) -> str:
        """A sub-page of the product."""

    def done(self, page: ItemPage) -> str:
        """Where buying leads."""


def html(page: Page, site: Site) -> str:
    """The page as HTML."""
    if isinstance(page, IndexPage):
        body = _index(page, site)
    elif isinstance(page, DonePage):
        body = _done(page)
    elif isinstance(page, ResultsPage):
        body = _results(page, site)
    elif isinstance(page, ItemPage):
        body = _item(page, site)
    elif isinstance(page, SubPage):
        body = _sub_page(page, site)
    else:
        raise TypeError(f"no markup for {type(page).__name__}")
    # The original's template of the last page alone ends in a line end, which its template engine drops.
    return f"<!DOCTYPE html>\n<html>\n  <head>\n{site.head(page)}  </head>\n  <body>\n{body}</html>"


def _form(indent: int, address: str, button: str, classes: str = "btn btn-primary") -> str:
    blanks = " " * indent
    return (
        f'{blanks}<form method="post" action="{escape(address)}">\n'
        f'{blanks}  <button type="submit" class="{classes}">{escape(button)}</button>\n'
        f"{blanks}</form>\n"
    )


def _row(inner: str) -> str:
    return f'      <div class="row top-buffer">\n{inner}      </div>\n'


def _inner(page: ResultsPage | ItemPage | SubPage, site: Site, rest: str) -> str:
    """The frame that all pages behind the search page share."""
    told = (
        '        <div class="col-sm-6">\n'
        '          <div id="instruction-text" class="text-center">\n'
        f"            <h4>Instruction:<br>{escape(page.instruction)}</h4>\n"
        "          </div>\n"
        "        </div>\n"
    )
    back = _form(8, site.index(page), BACK, "btn btn-success")
    return f'    <div class="container py-5">\n{_row(told)}{_row(back)}{rest}    </div>\n  </body>\n'


def _index(page: IndexPage, site: Site) -> str:
    return (
        "    <!-- Code reference: https://bootsnipp.com/snippets/m13mN -->\n"
        '    <div class="container" style="margin-top: 8%;">\n'
        '      <div class="col-md-6 col-md-offset-3">     \n'
        '        <div class="row">\n'
        '          <div id="logo" class="text-center">\n'
        "            <h2>WebShop</h2>\n"
        "          </div>\n"
        '          <div id="instruction-text" class="text-center">\n'
        f"            <h4>Instruction: <br>{escape(page.instruction)}</h4>\n"
        "          </div>\n"
        f'          <form role="form" id="form-buscar" method="post" action="{escape(site.index(page))}">\n'
        '            <div class="form-group">\n'
        '              <div class="input-group">\n'
        '                <input id="search_input" class="form-control" type="text" name="search_query"'
        ' placeholder="Search..." required/>\n'
        '                <span class="input-group-btn">\n'
        '                  <button class="btn btn-success" type="submit"><i class="glyphicon glyphicon-search"'
        ' aria-hidden="true"></i>Search</button>\n'
        "                </span>\n"
        "              </div>\n"
        "            </div>\n"
        "          </form>\n"
        "        </div>            \n"
        "      </div>\n"
        "    </div>\n"
        "  </body>\n"
    )


def _results(page: ResultsPage, site: Site) -> str:
    def column(inner: str) -> str:
        return f'            <div class="col-sm-2">\n{inner}            </div>\n'

    previous = _form(14, site.results(page, page.number - 1), PREVIOUS) if page.number > 1 else ""
    bar = (
        '        <div class="col-sm-8">\n'
        '          <div class="display-4">\n'
        f"            <h3>Page {page.number} (Total results: {page.total})</h3>\n"
        "          </div>\n"
        "          \n"
        f"{column(previous)}{column(_form(14, site.results(page, page.number + 1), NEXT))}"
        "          \n"
        "        </div>\n"
    )
    listed = "".join(_listed(page, site, place) for place in range(len(page.products)))
    return _inner(page, site, f"{_row(bar)}\n{_row(f'        {listed}' + chr(10))}")


def _listed(page: ResultsPage, site: Site, place: int) -> str:
    """One product of the results; begins and ends where the original's loop does, in the middle of a line."""
    product = page.products[place]
    aside = "".join(
        '                    <div class="d-flex align-items-center justify-content-between mt-1">\n'
        f'                      <h5 class="font-weight-bold my-2 product-{name}">{escape(value)}</h5>\n'
        "                    </div>\n"
        for name, value in (
            ("category", product.category),
            ("query", product.query),
            ("product_category", product.product_category),
        )
    )
    address = escape(site.item(page, product.asin, {}))
    return (
        "\n"
        '        <div class="col-lg-12 mx-auto list-group-item">\n'
        '          <div class="col-lg-4">\n'
        f'            <img src="{escape(product.main_image)}" class="result-img">\n'
        "          </div>\n"
        '          <div class="col-lg-8">\n'
        '            <ul class="list-group shadow">\n'
        '                <div class="media align-items-lg-center flex-column flex-lg-row p-3">\n'
        '                  <div class="media-body order-2 order-lg-1 searched-product">\n'
        "                    \n"
        '                    <h4 class="mt-0 font-weight-bold mb-2 product-asin">'
        f'<a class="product-link" href="{address}">{escape(product.asin)}</a></h5>\n'
        f'                    <h4 class="mt-0 font-weight-bold mb-2 product-title">{escape(product.title)}</h5>\n'
        '                    <div class="d-flex align-items-center justify-content-between mt-1">\n'
        f'                      <h5 class="font-weight-bold my-2 product-price">{escape(product.price_tag)}</h6>\n'
        "                    </div>\n"
        f"<!--\n{aside}-->\n"
        "                  </div>\n"
        "                </div>\n"
        "            </ul>\n"
        "          </div>\n"
        "        </div>\n"
        "        "
    )


def _item(page: ItemPage, site: Site) -> str:
    product = page.product
    options = "".join(_option(page, site, name, values) for name, values in product.options.items())
    tabs = {"Description": "description", "Features": "bulletpoints", "Reviews": "reviews", "Attributes": "attributes"}
    columns = {
        topic: (
            f'            <div class="col-sm-3" name="{tabs[topic]}">\n'
            f'              <form method="post" action="{escape(site.sub_page(page, topic))}">\n'
            f'                <button class="btn btn-primary" type="submit">{topic}</button>\n'
            "              </form>\n"
            "            </div>\n"
        )
        for topic in page.sub_pages()
    }
    shown = columns.pop("Attributes", "")
    main = (
        '        <div class="col-md-4 mb-4 mb-md-0">\n'
        '          <div class="row top-buffer">\n'
        f'            <img id="product-image" src="{escape(product.main_image)}" class="item-page-img">\n'
        "          </div>\n"
        f"          {options}\n"
        "        </div>\n"
        '        <div class="col-md-6">\n'
        f"          <h2>{escape(product.title)}</h2>\n"
        f"          <h4>Price: {escape(product.price_tag)}</h4>\n"
        "          <h4>Rating: N.A.</h4>\n"
        '          <div class="row top-buffer">\n'
        f"{''.join(columns.values())}"
        f"            {chr(10) + shown + ' ' * 12 if shown else ''}\n"
        "          </div>\n"
        "        </div>\n"
        '        <div class="col-sm-2">\n'
        '          <div class="row top-buffer">\n'
        f"{_form(12, site.done(page), BUY, 'btn btn-lg purchase')}"
        "          </div>\n"
        "        </div>\n"
    )
    previous = _form(8, site.results(page, page.number), PREVIOUS)
    return _inner(page, site, _row(previous) + _row(main)) + site.script(page)


def _option(page: ItemPage, site: Site, name: str, values: Sequence[str]) -> str:
    buttons = ""
    for place, value in enumerate(values):
        address = escape(site.item(page, page.product.asin, {**page.chosen, name: value}))
        number, key, text = f"{escape(name)}{place}", escape(name), escape(value)
        buttons += (
            "\n                  \n                  \n                  \n"
            f'                  <input type="radio" id="radio_{number}" name="{key}" value="{text}"'
            f' data-url="{address}"{site.checked(page, name, value)}>\n'
            f'                  <label for="radio_{number}">{text}</label>\n'
            "                "
        )
    return (
        "\n"
        '            <div class="row top-buffer">\n'
        f"              <h4>{escape(name)}</h4>\n"
        '              <div class="radio-toolbar">\n'
        f"                {buttons}\n"
        "              </div>\n"
        "            </div>\n"
        "          "
    )


def _sub_page(page: SubPage, site: Site) -> str:
    product = page.product
    shown = {
        "Description": ("description", f'                <p class="product-info">{escape(product.description)}</p>\n'),
        "Features": ("bulletpoints", _list(product.bullet_points, "product-info")),
        "Reviews": ("reviews", "                \n"),
        "Attributes": ("description", _list(product.attributes, "attribute")),
    }
    name, inner = shown[page.topic]
    column = (
        f'            <div class="col-sm-6" name="{name}">\n'
        '              <div class="card card-body">\n'
        f"{inner}"
        "              </div>\n"
        "            </div>\n"
    )
    if page.topic == "Attributes":
        column += _kinds(page)
    main = (
        '        <div class="col-md-12">\n'
        '          <div class="row top-buffer">\n'
        f"{column}"
        "          </div>\n"
        "        </div>\n"
    )
    previous = _form(8, site.item(page, product.asin, page.chosen), PREVIOUS)
    return _inner(page, site, _row(previous) + _row(main))


def _list(lines: Sequence[str], kind: str) -> str:
    points = "".join(
        f'\n                  <li><p class="{kind}"> {escape(line)}</p></li>\n                  ' for line in lines
    )
    return f"                <ul>\n                  {points}\n                </ul>\n"


def _kinds(page: SubPage) -> str:
    rows = "".join(
        '              <div class="d-flex align-items-center justify-content-between mt-1">\n'
        f'                <h5 class="font-weight-bold my-2 product-{name}">{escape(value)}</h5>\n'
        "              </div>\n"
        for name, value in (
            ("category", page.product.category),
            ("query", page.product.query),
            ("product_category", page.product.product_category),
        )
    )
    return f'            <div class="col-sm-6" name="description">\n{rows}            </div>\n'


def _done(page: DonePage) -> str:
    blanks = " " * 14

    def row(identity: str, label: str, value: str, closing: str = "h4") -> str:
        return f'{blanks}<h4 id="{identity}">{label}<pre>{escape(value)}</pre></{closing}>\n'

    bought = row("asin", "asin", page.asin, "p")
    bought += f'{blanks}<h4 id="options">options<pre>{page.options_text()}</pre></h4>\n'
    for identity, label in (
        ("purchased_attrs", "attrs"),
        ("purchased-category", "category"),
        ("purchased-query", "query"),
        ("purchased-pc", "product category"),
    ):
        bought += row(identity, label, "None")
    target = row("goal-asin", "asin", "", "p")
    for identity, label in (
        ("goal-options", "options"),
        ("goal-attrs", "attrs"),
        ("goal-price", "price upper"),
        ("goal-instruction-text", "instuction text"),
        ("goal-category", "category"),
        ("goal-pc", "product category"),
        ("goal-query", "query"),
    ):
        target += row(identity, label, "")
    return (
        "    <!-- Code reference: https://bootsnipp.com/snippets/m13mN -->\n"
        '    <div class="container" style="margin-top: 8%;">\n'
        '      <div class="col-md-6 col-md-offset-3">     \n'
        '        <div class="row">\n'
        '          <div id="thankyou" class="text-center">\n'
        "            <h1>Thank you for shopping with us!</h1>\n"
        "          </div>\n"
        '          <div id="stats" class="text-center">\n'
        '            <h3 align="mturk_code">Your code: </h3>\n'
        "            <p><pre>None</pre> (Paste it in your MTurk interface.)</p>\n"
        '            <div style="display:none">\n'
        f'{blanks}<h2 align="left">Purchased</h2>\n{blanks}<hr class="solid">\n{bought}'
        f'{blanks}<h2 align="left">Target</h2>\n{blanks}<hr class="solid">\n{target}'
        f'{blanks}<h4>Goal <div id="goal"><pre>None</pre></div></h4>\n'
        f'{blanks}<h2 align="left">Reward</h2>\n'
        "            </div>\n"
        '            <hr class="solid">\n'
        f'      \t\t\t<h3   id="reward">Your score (min 0.0, max 1.0)<pre>{page.reward}</pre></h3>\n'
        '            <h4 hidden>Reward Details <div id="reward_info"><pre>None</pre></div></h4>\n'
        "          </div>\n"
        "        </div>            \n"
        "      </div>\n"
        "    </div>\n"
        "  </body>\n"
    )


class TextSite:
    """The markup of the original's text environment: every address is its one route `/` with a query."""

    def head(self, page: Page) -> str:
        style = '    <link rel="stylesheet" href="{}">\n'
        bootstrap = style.format("https://maxcdn.bootstrapcdn.com/bootstrap/3.4.1/css/bootstrap.min.css")
        icons = "https://cdnjs.cloudflare.com/ajax/libs/font-awesome/{}/css/font-awesome{}"
        own, icon = style.format("/static/style.css"), '    <link rel="icon" href="data:,">\n'
        if isinstance(page, IndexPage | DonePage):
            return own + style.format(icons.format("4.7.0", ".min.css")) + bootstrap + icon
        scripts = (
            "https://ajax.googleapis.com/ajax/libs/jquery/3.5.1/jquery.min.js",
            "https://stackpath.bootstrapcdn.com/bootstrap/4.3.1/js/bootstrap.bundle.min.js",
        )
        loaded = "".join(f'    <script src="{each}"></script>\n' for each in scripts)
        return own + bootstrap + style.format(icons.format("4.0.3", ".css\t")) + loaded + icon

    def script(self, page: ItemPage) -> str:
        return _SCRIPT.replace("OPTIONS", script_json(dict(page.chosen))).replace(
            "IMAGES", script_json(dict(page.product.option_images))
        )

    def checked(self, page: ItemPage, option: str, value: str) -> str:
        return ""

    def index(self, page: Page) -> str:
        return _query(session_id=page.session)

    def results(self, page: ResultsPage | ItemPage, number: int) -> str:
        return _query(session_id=page.session, keywords=page.keywords, page=number)

    def item(self, page: ResultsPage | ItemPage | SubPage, asin: str, chosen: Mapping[str, str]) -> str:
        # A page may hold hundreds of these, which differ in the options alone.
        options = quote_plus(str(dict(chosen)), safe=_SAFE)
        return f"{_product_query(page.session, asin, page.keywords, page.number)}&options={options}"

    def sub_page(self, page: ItemPage, topic: str) -> str:
        return _query(
            session_id=page.session,
            asin=page.product.asin,
            keywords=page.keywords,
            page=page.number,
            sub_page=topic,
            options=str(dict(page.chosen)),
        )

    def done(self, page: ItemPage) -> str:
        return _query(session_id=page.session, asin=page.product.asin, options=str(dict(page.chosen)))


def _query(**values: object) -> str:
    return "/?" + urlencode(values, doseq=True, safe=_SAFE)


@lru_cache(maxsize=256)
def _product_query(session: str, asin: str, keywords: tuple[str, ...], number: int) -> str:
    return _query(session_id=session, asin=asin, keywords=keywords, page=number)


_SAFE = "!$'()*,/:;?@"
"""What the original's web framework leaves as it is in a query."""


_SCRIPT = """\
  <script>
    $(document).ready(function() {
      $('input:radio').each(function() {
        //console.log($(this).val());
        let options = JSON.parse(`OPTIONS`);
        let optionValues = $.map(options, function(value, key) { return value });
        //console.log(optionValues);
        if (optionValues.includes($(this).val())) {
          $(this).prop('checked', true);

          let option_to_image = JSON.parse(`IMAGES`);
//          console.log($(this).val());
//          console.log(options);
//          console.log(option_to_image);
          let image_url = option_to_image[$(this).val()];

          //console.log(image_url);
          if (image_url) {
            $("#product-image").attr("src", image_url);
          }
        }
        
        // reload with updated options
        this.addEventListener("click", function() {
          window.location.href = this.dataset.url;
        });

      });
    });
  </script>
"""
