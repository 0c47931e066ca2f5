"""A script for every document that keeps what a page writes to its console, and the errors it throws, in the page.

Nobody here reads them. But the browser passes each on to Playwright's driver, through one pipe for all its episodes: a
page that writes without end would hold up every other one. Messages of workers are not kept back: no script of ours
comes before theirs.
"""

from __future__ import annotations

SILENCE = """(() => {
  const nothing = {apply: () => undefined};
  for (const name of ['assert', 'clear', 'count', 'countReset', 'debug', 'dir', 'dirxml', 'error', 'group',
      'groupCollapsed', 'groupEnd', 'info', 'log', 'profile', 'profileEnd', 'table', 'time', 'timeEnd', 'timeLog',
      'timeStamp', 'trace', 'warn'])
    if (typeof console[name] === 'function') console[name] = new Proxy(console[name], nothing);
  if (console.context) console.context = new Proxy(console.context, {apply: () => console});
  for (const kind of ['error', 'unhandledrejection'])
    addEventListener(kind, event => event.preventDefault(), {capture: true});
})()"""
"""To the page a function that is wrapped looks like the browser's own. An error whose event is prevented is still
handed to the page's own handlers."""
