"""Ways through MiniWoB's mail pages. What is wanted stands in the data of the page's own handlers."""

from __future__ import annotations

from palaestra.envs.browser.actions import click, typing
from palaestra.envs.browser.miniwob_scene import Scene, solves
from palaestra.envs.browser.tree import Element

_WANTED = """(() => {
  const thread = document.querySelector('#main .email-thread');
  const {emails, expectedDetails: wanted} = jQuery._data(thread, 'events').click.find(e => e.data).data;
  return {action: wanted.action, place: emails.indexOf(wanted.email), text: wanted.reply || wanted.forward || '',
          opened: !!document.querySelector('#email'), writes: !!document.querySelector('#reply, #forward')};
})()"""


@solves("email-inbox", "email-inbox-delete", "email-inbox-forward", "email-inbox-forward-nl",
        "email-inbox-forward-nl-turk", "email-inbox-important", "email-inbox-nl-turk", "email-inbox-noscroll",
        "email-inbox-reply", "email-inbox-star-reply")  # fmt: skip
def _mail(page: Scene) -> str:
    wanted = page.js(_WANTED)
    if wanted["writes"]:
        field = page.all("textbox")[0]
        if field.value != wanted["text"]:
            return typing(field.number, wanted["text"])
        return page.point("#send-reply, #send-forward")
    if wanted["opened"]:
        return click(page.get(wanted["action"].capitalize()).number)
    icon = {"delete": "trash", "important": "star"}.get(wanted["action"])
    if icon is not None:
        return click(_of_class(page, icon)[wanted["place"]].number)
    time = _of_class(page, "email-time")[wanted["place"]]
    return click(page.body[page.body.index(time) - 1].number)  # the mail's last words


def _of_class(page: Scene, name: str) -> list[Element]:
    return page.where(lambda e: f"class={name}" in e.states)
