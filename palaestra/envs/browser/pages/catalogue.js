const BOOKS = [{"title": "The Salt Road", "author": "Ines Okafor", "year": 1987, "shelf": "B2", "state": "in"}, {"title": "Birds of the Upper Mill", "author": "Tomas Reed", "year": 1954, "shelf": "C7", "state": "out until 3 May"}, {"title": "A Short History of Locks", "author": "Ada Lindqvist", "year": 2003, "shelf": "D1", "state": "in"}, {"title": "Nine Winters", "author": "Ines Okafor", "year": 1992, "shelf": "B2", "state": "out until 19 April"}, {"title": "The Glass Orchard", "author": "Pavel Horn", "year": 2011, "shelf": "B5", "state": "in"}, {"title": "Bread and Weather", "author": "Mina Castell", "year": 1978, "shelf": "A4", "state": "in"}, {"title": "Rivers That Moved", "author": "Tomas Reed", "year": 1961, "shelf": "C7", "state": "in"}, {"title": "The Quiet Engine", "author": "Ruth Abara", "year": 2019, "shelf": "D3", "state": "out until 8 June"}];
const show = (tag, text, parent) => { const e = document.createElement(tag); e.textContent = text; parent.append(e); return e; };
document.getElementById("search").addEventListener("submit", event => {
  event.preventDefault();
  const words = document.getElementById("words").value.trim().toLowerCase();
  const field = document.getElementById("field").value.toLowerCase();
  const here = document.getElementById("here").checked;
  const found = BOOKS.filter(b => words && b[field].toLowerCase().includes(words) && (!here || b.state === "in"));
  const place = document.getElementById("found");
  place.replaceChildren();
  show("p", `${found.length} found`, place);
  for (const b of found) {
    const item = show("article", "", place);
    show("h2", b.title, item);
    const more = show("button", `Details of ${b.title}`, item);
    more.addEventListener("click", () => { more.replaceWith(Object.assign(document.createElement("p"),
      { textContent: `by ${b.author}, ${b.year}, shelf ${b.shelf}, ${b.state}` })); });
  }
});
