"""The airline's tools: what each reads, checks and changes, as its schema and the policy have it.

Checks come first, so that a refused call has changed nothing. Refused is what no policy could allow (negative payments
and bags, more than a gift card holds, a certificate twice, nobody on no flight, unknown airports) and more than five
passengers. What else the policy says is left to the agent, as in the benchmark, whose recorded answers show it: which
flights make up the trip that a booking states, how many certificates and cards pay for it, how many bags are free, that
bags are only added, and who may cancel, change or be compensated ("the API does not check these for the agent").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from palaestra.envs.taubench.data import Record
from palaestra.envs.taubench.world import Refused, World

NOW = "2024-05-15T15:00:00"
"""The policy's "current time"."""

BAG, INSURANCE = 50, 30
"""Dollars for an extra bag, and for one passenger's insurance."""

BOOKINGS = ("HATHAT", "HATHAU", "HATHAV")
"""Ids of new reservations, one after another; the files have none of them."""

MOST_PASSENGERS = 5
"""Of one reservation, by the policy."""

CERTIFICATES = (3221322, 3221323, 3221324)

AIRPORTS = {
    "SFO": "San Francisco",
    "JFK": "New York",
    "LAX": "Los Angeles",
    "ORD": "Chicago",
    "DFW": "Dallas",
    "DEN": "Denver",
    "SEA": "Seattle",
    "ATL": "Atlanta",
    "MIA": "Miami",
    "BOS": "Boston",
    "PHX": "Phoenix",
    "IAH": "Houston",
    "LAS": "Las Vegas",
    "MCO": "Orlando",
    "EWR": "Newark",
    "CLT": "Charlotte",
    "MSP": "Minneapolis",
    "DTW": "Detroit",
    "PHL": "Philadelphia",
    "LGA": "LaGuardia",
}


# -- looking -----------------------------------------------------------------------------------------------------------


def get_user_details(world: World, user_id: str) -> str:
    """A user's row."""
    return json.dumps(world.need("users", user_id))


def get_reservation_details(world: World, reservation_id: str) -> str:
    """A reservation's row."""
    return json.dumps(world.need("reservations", reservation_id))


def list_all_airports(world: World) -> str:
    """Codes and cities."""
    return json.dumps(AIRPORTS)


def search_direct_flight(world: World, origin: str, destination: str, date: str) -> str:
    """The flights of a day that can be booked."""
    return json.dumps([_offer(flight, date) for flight in _leaving(world, origin, date) if _goes(flight, destination)])


def search_onestop_flight(world: World, origin: str, destination: str, date: str) -> str:
    """Pairs of flights that can be booked, the second of which leaves when the first has arrived.

    Two habits of the benchmark's recorded answers are kept. The second flight may leave at the very minute on the same
    day, but not after a night. After a night it is shown with the seats and prices of the first flight's day.
    """
    pairs = []
    for first in _leaving(world, origin, date):
        arrives, _, overnight = first["scheduled_arrival_time_est"].partition("+")
        then = _next_day(date) if overnight else date
        for second in _leaving(world, first["destination"], then):
            leaves = second["scheduled_departure_time_est"]
            if _goes(second, destination) and (arrives < leaves or (arrives == leaves and not overnight)):
                pairs.append([{**_offer(first, date), "date": date}, {**_offer(second, date), "date": then}])
    return json.dumps(pairs)


def _leaving(world: World, origin: str, date: str) -> Iterator[Record]:
    for _, flight in world.rows("flights"):
        if flight["origin"] == origin and flight["dates"].get(date, {}).get("status") == "available":
            yield flight


def _goes(flight: Record, destination: str) -> bool:
    return bool(flight["destination"] == destination)


def _offer(flight: Record, date: str) -> Record:
    return {**{key: value for key, value in flight.items() if key != "dates"}, **flight["dates"].get(date, {})}


def _next_day(date: str) -> str:
    """The day after; the files' days are of one month."""
    return f"{date[:-2]}{int(date[-2:]) + 1:02d}"


# -- changing ----------------------------------------------------------------------------------------------------------


def book_reservation(
    world: World,
    user_id: str,
    origin: str,
    destination: str,
    flight_type: str,
    cabin: str,
    flights: Sequence[Record],
    passengers: Sequence[Record],
    payment_methods: Sequence[Record],
    total_baggages: int,
    nonfree_baggages: int,
    insurance: str,
) -> str:
    """A new reservation, paid in full."""
    owned = world.need("users", user_id)["payment_methods"]
    _bookable(origin, destination, flights, passengers)
    _baggage(total_baggages, nonfree_baggages)
    booked = [_seated(world, flight, cabin, len(passengers)) for flight in flights]
    total = sum(flight["price"] for flight in booked) * len(passengers)
    total += BAG * nonfree_baggages + (INSURANCE * len(passengers) if insurance == "yes" else 0)
    _payable(owned, payment_methods)
    paid = sum(payment["amount"] for payment in payment_methods)
    if paid != total:
        raise Refused(f"payment amount does not add up, total price is {total}, but paid {paid}")
    id = next((id for id in BOOKINGS if world.find("reservations", id) is None), None)
    if id is None:
        raise Refused("no further reservation can be made")
    user = world.edit("users", user_id)
    _spend(user["payment_methods"], payment_methods)
    user["reservations"].append(id)
    reservation = {
        "reservation_id": id,
        "user_id": user_id,
        "origin": origin,
        "destination": destination,
        "flight_type": flight_type,
        "cabin": cabin,
        "flights": booked,
        "passengers": list(passengers),
        "payment_history": list(payment_methods),
        "created_at": NOW,
        "total_baggages": total_baggages,
        "nonfree_baggages": nonfree_baggages,
        "insurance": insurance,
    }
    world.add("reservations", id, reservation)
    return json.dumps(reservation)


def _bookable(origin: str, destination: str, flights: Sequence[Record], passengers: Sequence[Record]) -> None:
    """Raises Refused for what no reservation can be."""
    for place in (origin, destination):
        if place not in AIRPORTS:
            raise Refused(f"there is no airport {place}")
    if not flights:
        raise Refused("a reservation has at least one flight")
    if not 0 < len(passengers) <= MOST_PASSENGERS:
        raise Refused(f"a reservation has 1 to {MOST_PASSENGERS} passengers, not {len(passengers)}")


def _baggage(total: int, nonfree: int) -> None:
    """Raises Refused for numbers of bags that cannot be."""
    if not 0 <= nonfree <= total:
        raise Refused(f"of {total} bags, {nonfree} cannot be those to pay for")


def _payable(owned: Mapping[str, Record], payments: Sequence[Record]) -> None:
    """Raises Refused for a method that the user has not, or that holds less than is taken from it in all."""
    taken: dict[str, float] = {}
    for payment in payments:
        id, amount = payment["payment_id"], payment["amount"]
        if id not in owned:
            raise Refused(f"payment method {id} not found")
        if amount < 0:
            raise Refused(f"a payment is not negative, got {amount} from {id}")
        if id in taken and owned[id]["source"] == "certificate":
            raise Refused(f"{id} can be used only once")
        taken[id] = taken.get(id, 0) + amount
        if owned[id]["source"] != "credit_card" and owned[id]["amount"] < taken[id]:
            raise Refused(f"not enough balance in payment method {id}")


def _seated(world: World, flight: Record, cabin: str, seats: int) -> Record:
    """A flight as a reservation has it. Raises Refused where it cannot be booked."""
    number, date = flight["flight_number"], flight["date"]
    known = world.find("flights", number)
    if known is None:
        raise Refused(f"flight {number} not found")
    day = known["dates"].get(date)
    if day is None:
        raise Refused(f"flight {number} not found on date {date}")
    if day["status"] != "available":
        raise Refused(f"flight {number} not available on date {date}")
    if day["available_seats"][cabin] < seats:
        raise Refused(f"not enough seats on flight {number}")
    return _leg(flight, day["prices"][cabin], known)


def _leg(flight: Record, price: int, known: Record) -> Record:
    return {**flight, "price": price, "origin": known["origin"], "destination": known["destination"]}


def _spend(owned: dict[str, Record], payments: Sequence[Record]) -> None:
    """Gift cards pay; a certificate is used up, whatever is left on it."""
    for payment in payments:
        id = payment["payment_id"]
        if id in owned and owned[id]["source"] == "gift_card":
            owned[id]["amount"] -= payment["amount"]
        elif id in owned and owned[id]["source"] == "certificate":
            del owned[id]


def cancel_reservation(world: World, reservation_id: str) -> str:
    """Cancelled, once; every payment is written back to where it came from, in the days to come."""
    if world.need("reservations", reservation_id).get("status") == "cancelled":
        raise Refused(f"reservation {reservation_id} is already cancelled")
    reservation = world.edit("reservations", reservation_id)
    paid = reservation["payment_history"]
    paid += [{"payment_id": each["payment_id"], "amount": -each["amount"]} for each in paid]
    reservation["status"] = "cancelled"
    return json.dumps(reservation)


def update_reservation_flights(
    world: World, reservation_id: str, cabin: str, flights: Sequence[Record], payment_id: str
) -> str:
    """Other flights or another cabin; flights that stay keep their price, the difference is paid or refunded.

    The row goes on to state the cabin that was booked first, as the recorded answers of the benchmark's own tool do.
    """
    reservation = world.need("reservations", reservation_id)
    if not flights:
        raise Refused("a reservation has at least one flight")
    before = reservation["flights"]
    count = len(reservation["passengers"])
    after = [_kept(world, flight, reservation, cabin) or _seated(world, flight, cabin, count) for flight in flights]
    price = (sum(flight["price"] for flight in after) - sum(flight["price"] for flight in before)) * count
    _charge(world, reservation, payment_id, price)
    reservation = world.edit("reservations", reservation_id)
    reservation["flights"] = after
    return json.dumps(reservation)


def _kept(world: World, flight: Record, reservation: Record, cabin: str) -> Record | None:
    """A flight of the reservation that stays in its cabin, at the price that was paid for it."""
    for old in reservation["flights"]:
        same = old["flight_number"] == flight["flight_number"] and old["date"] == flight["date"]
        if same and reservation["cabin"] == cabin:
            return _leg(flight, old["price"], world.need("flights", flight["flight_number"]))
    return None


def update_reservation_baggages(
    world: World, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
) -> str:
    """Other numbers of bags; further ones that are not free are paid."""
    reservation = world.need("reservations", reservation_id)
    _baggage(total_baggages, nonfree_baggages)
    price = BAG * max(0, nonfree_baggages - reservation["nonfree_baggages"])
    _charge(world, reservation, payment_id, price)
    reservation = world.edit("reservations", reservation_id)
    reservation["total_baggages"], reservation["nonfree_baggages"] = total_baggages, nonfree_baggages
    return json.dumps(reservation)


def _charge(world: World, reservation: Record, payment_id: str, price: int) -> None:
    """Pay a change of a reservation, or get money back for it. Raises Refused."""
    id, user_id = reservation["reservation_id"], reservation["user_id"]
    method = world.need("users", user_id)["payment_methods"].get(payment_id)
    if method is None:
        raise Refused("payment method not found")
    if method["source"] == "certificate":
        raise Refused("certificate cannot be used to update reservation")
    if method["source"] == "gift_card" and method["amount"] < price:
        raise Refused("gift card balance is not enough")
    if method["source"] == "gift_card":
        world.edit("users", user_id)["payment_methods"][payment_id]["amount"] -= price
    if price != 0:
        world.edit("reservations", id)["payment_history"].append({"payment_id": payment_id, "amount": price})


def update_reservation_passengers(world: World, reservation_id: str, passengers: Sequence[Record]) -> str:
    """Other passengers, as many as before."""
    if len(passengers) != len(world.need("reservations", reservation_id)["passengers"]):
        raise Refused("a reservation keeps its number of passengers")
    reservation = world.edit("reservations", reservation_id)
    reservation["passengers"] = list(passengers)
    return json.dumps(reservation)


def send_certificate(world: World, user_id: str, amount: int | float) -> str:
    """A certificate in the user's profile."""
    if amount <= 0:
        raise Refused(f"a certificate is worth something, not {amount}")
    owned = world.edit("users", user_id)["payment_methods"]
    id = next((id for number in CERTIFICATES if (id := f"certificate_{number}") not in owned), None)
    if id is None:
        raise Refused("no further certificate can be sent")
    owned[id] = {"source": "certificate", "amount": amount, "id": id}
    return f"Certificate {id} added to user {user_id} with amount {amount}."


TOOLS: Mapping[str, Any] = {
    function.__name__: function
    for function in (
        book_reservation,
        cancel_reservation,
        get_reservation_details,
        get_user_details,
        list_all_airports,
        search_direct_flight,
        search_onestop_flight,
        send_certificate,
        update_reservation_baggages,
        update_reservation_flights,
        update_reservation_passengers,
    )
}
"""Name -> function of the world and the arguments by name; raises Refused."""
