const ROOMS = { "Mill room": [20, 60], "Loft": [8, 35], "Cellar": [40, 90] };
document.getElementById("book").addEventListener("submit", event => {
  event.preventDefault();
  const [most, price] = ROOMS[document.getElementById("room").value] || [0, 0];
  const people = Number(document.getElementById("people").value);
  document.getElementById("price").textContent = !most ? "Choose a room first." : people < 1 ? "Say how many come." :
    people > most ? `This room holds ${most} people.` : `${price + 2 * people} crowns an evening`;
});
