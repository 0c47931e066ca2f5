// Asks the server, with the token where there is one. A token in the address (#token=...) is kept for this tab only.

const KEPT = "palaestra-token";

const given = /(?:^#|&)token=([^&]+)/.exec(location.hash);
if (given) {
  sessionStorage.setItem(KEPT, decodeURIComponent(given[1]));
  history.replaceState(null, "", location.pathname + "#/");
}

function headers() {
  const token = sessionStorage.getItem(KEPT);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export async function ask(what, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters))
    if (value !== undefined && value !== null && value !== "") query.set(name, value);
  let answer;
  try {
    answer = await fetch(`/api/${what}?${query}`, { headers: headers() });
  } catch {
    throw new Error("The server does not answer. Is `palaestra view` still running?");
  }
  if (answer.status === 401) throw new Error("This server needs its token: add #token=TOKEN to the address.");
  const found = await answer.json().catch(() => ({ error: `the server answered with status ${answer.status}` }));
  if (!answer.ok) throw new Error(found.error ?? `status ${answer.status}`);
  return found;
}

// A screenshot as an address of this page, or null. A missing one is no error.
export async function picture(parameters) {
  const answer = await fetch(`/api/picture?${new URLSearchParams(parameters)}`, { headers: headers() });
  return answer.status === 200 ? URL.createObjectURL(await answer.blob()) : null;
}

// Calls `again` every so many milliseconds while the page is seen; gives what ends it.
export function every(milliseconds, again) {
  const timer = setInterval(() => { if (!document.hidden) again(); }, milliseconds);
  return () => clearInterval(timer);
}
