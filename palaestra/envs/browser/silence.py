"""A script for every document that keeps what a page writes to its console, and the errors it throws, in the page.

Nobody here reads them. But the browser passes each on to Playwright's driver, through one pipe for all its episodes: a
page that writes without end would hold up every other one. Messages of workers are not kept back: no script of ours
comes before theirs.
"""

from __future__ import annotations

SILENCE = """(() => {
  const {apply} = Reflect, wrapped = (what, how) => new Proxy(what, {__proto__: null, apply: how});
  for (const name of ['assert', 'clear', 'count', 'countReset', 'debug', 'dir', 'dirxml', 'error', 'group',
      'groupCollapsed', 'groupEnd', 'info', 'log', 'profile', 'profileEnd', 'table', 'time', 'timeEnd', 'timeLog',
      'timeStamp', 'trace', 'warn'])
    if (typeof console[name] === 'function') console[name] = wrapped(console[name], () => undefined);
  if (console.context) console.context = wrapped(console.context, () => console);
  const prevent = Event.prototype.preventDefault, add = EventTarget.prototype.addEventListener;
  const prevented = event => apply(prevent, event, []);
  const view = Object.getOwnPropertyDescriptor(Document.prototype, 'defaultView').get;
  const listen = its => {
    const target = apply(view, its, []);
    if (!target) return;
    apply(add, target, ['error', prevented, true]);
    apply(add, target, ['unhandledrejection', prevented, true]);
  };
  listen(document);
  const {open, write, writeln} = Document.prototype;
  Document.prototype.open = wrapped(open, (original, its, given) => {
    const made = apply(original, its, given);
    listen(its);
    return made;
  });
  const written = (original, its, given) => {
    try { apply(write, its, ['']); listen(its); } catch {}
    return apply(original, its, given);
  };
  Document.prototype.write = wrapped(write, written);
  Document.prototype.writeln = wrapped(writeln, written);
})()"""
"""To the page a function that is wrapped looks like the browser's own. An error whose event is prevented is still
handed to the page's own handlers. What is needed later is kept from before the page's own scripts, which may replace
it. A document that is opened anew loses all its listeners, ours too, so they are added again: writing opens it where
it has been closed, and runs the scripts in what is written, so an empty text is written first."""
