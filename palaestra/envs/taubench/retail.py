"""The shop's tools: what each reads, checks and changes, as its schema and the policy have it.

Checks come first, so that a refused call has changed nothing. An item may become the very same one, which the policy
does not want and the ground truth does in places; whom a user is, and what he confirmed, is the agent's to know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from palaestra.envs.taubench.data import Record
from palaestra.envs.taubench.world import Refused, World

# -- looking -----------------------------------------------------------------------------------------------------------


def find_user_id_by_email(world: World, email: str) -> str:
    """The id of the user with this address; letter case does not count."""
    return _found(id for id, user in world.rows("users") if user["email"].lower() == email.lower())


def find_user_id_by_name_zip(world: World, first_name: str, last_name: str, zip: str) -> str:
    """The id of the user of this name and zip code; letter case does not count."""
    wanted = first_name.lower(), last_name.lower(), zip
    return _found(id for id, user in world.rows("users") if _named(user) == wanted)


def _named(user: Record) -> tuple[str, str, str]:
    return user["name"]["first_name"].lower(), user["name"]["last_name"].lower(), user["address"]["zip"]


def _found(ids: Iterator[str]) -> str:
    id = next(ids, None)
    if id is None:
        raise Refused("user not found")
    return id


def get_user_details(world: World, user_id: str) -> str:
    """A user's row."""
    return json.dumps(world.need("users", user_id))


def get_order_details(world: World, order_id: str) -> str:
    """An order's row."""
    return json.dumps(world.need("orders", order_id))


def get_product_details(world: World, product_id: str) -> str:
    """A product's row with all its items."""
    return json.dumps(world.need("products", product_id))


def list_all_product_types(world: World) -> str:
    """Names and ids of the products, by name."""
    names = {product["name"]: product["product_id"] for _, product in world.rows("products")}
    return json.dumps(dict(sorted(names.items())))


# -- pending orders ----------------------------------------------------------------------------------------------------


def cancel_pending_order(world: World, order_id: str, reason: str) -> str:
    """Cancelled; every payment is refunded, to gift cards at once."""
    order = _in_state(world, order_id, "pending", "cancelled")
    refunds = [
        {"transaction_type": "refund", "amount": paid["amount"], "payment_method_id": paid["payment_method_id"]}
        for paid in order["payment_history"]
    ]
    for refund in refunds:
        _pay(world, order["user_id"], refund["payment_method_id"], -refund["amount"])
    order = world.edit("orders", order_id)
    order["status"] = "cancelled"
    order["cancel_reason"] = reason
    order["payment_history"] += refunds
    return json.dumps(order)


def modify_pending_order_address(
    world: World, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> str:
    """Another address to ship to."""
    _in_state(world, order_id, "pending", "modified")
    order = world.edit("orders", order_id)
    order["address"] = _address(address1, address2, city, state, country, zip)
    return json.dumps(order)


def modify_pending_order_items(
    world: World, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
) -> str:
    """Other items of the same products; the difference is paid or refunded. Only once."""
    order = _in_state(world, order_id, "pending", "modified")
    swaps = _swaps(world, order, item_ids, new_item_ids, "modified")
    difference = sum(new["price"] - old["price"] for old, new in swaps)
    _afford(world, order, payment_method_id, difference)
    _pay(world, order["user_id"], payment_method_id, difference)
    order = world.edit("orders", order_id)
    payment = {
        "transaction_type": "payment" if difference > 0 else "refund",
        "amount": abs(difference),
        "payment_method_id": payment_method_id,
    }
    order["payment_history"].append(payment)
    for old_id, (_, new) in zip(item_ids, swaps, strict=True):
        item = next(item for item in order["items"] if item["item_id"] == old_id)
        item["item_id"], item["price"], item["options"] = new["item_id"], new["price"], dict(new["options"])
    order["status"] = "pending (item modified)"
    return json.dumps(order)


def modify_pending_order_payment(world: World, order_id: str, payment_method_id: str) -> str:
    """Another payment method for all of it; the first one is refunded."""
    order = _in_state(world, order_id, "pending", "modified")
    _method(world, order, payment_method_id)
    history = order["payment_history"]
    if len(history) != 1 or history[0]["transaction_type"] != "payment":
        raise Refused("a pending order has exactly one payment")
    before, amount = history[0]["payment_method_id"], history[0]["amount"]
    if before == payment_method_id:
        raise Refused("the new payment method must be another one than the current one")
    _afford(world, order, payment_method_id, amount)
    _pay(world, order["user_id"], payment_method_id, amount)
    _pay(world, order["user_id"], before, -amount)
    order = world.edit("orders", order_id)
    order["payment_history"] += [
        {"transaction_type": "payment", "amount": amount, "payment_method_id": payment_method_id},
        {"transaction_type": "refund", "amount": amount, "payment_method_id": before},
    ]
    return json.dumps(order)


# -- delivered orders --------------------------------------------------------------------------------------------------


def return_delivered_order_items(world: World, order_id: str, item_ids: Sequence[str], payment_method_id: str) -> str:
    """Some items go back; the refund goes to the first payment method or a gift card."""
    order = _in_state(world, order_id, "delivered", "returned")
    method = _method(world, order, payment_method_id)
    if method["source"] != "gift_card" and payment_method_id != order["payment_history"][0]["payment_method_id"]:
        raise Refused("payment method should be either the original payment method or a gift card")
    _held(order, item_ids)
    order = world.edit("orders", order_id)
    order["status"] = "return requested"
    order["return_items"] = sorted(item_ids)
    order["return_payment_method_id"] = payment_method_id
    return json.dumps(order)


def exchange_delivered_order_items(
    world: World, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
) -> str:
    """Other items of the same products, asked for; nothing is paid yet."""
    order = _in_state(world, order_id, "delivered", "exchanged")
    swaps = _swaps(world, order, item_ids, new_item_ids, "exchanged")
    difference = round(sum(new["price"] - old["price"] for old, new in swaps), 2)
    _afford(world, order, payment_method_id, difference)
    order = world.edit("orders", order_id)
    order["status"] = "exchange requested"
    order["exchange_items"] = sorted(item_ids)
    order["exchange_new_items"] = sorted(new_item_ids)
    order["exchange_payment_method_id"] = payment_method_id
    order["exchange_price_difference"] = difference
    return json.dumps(order)


# -- users -------------------------------------------------------------------------------------------------------------


def modify_user_address(
    world: World, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> str:
    """Another default address."""
    user = world.edit("users", user_id)
    user["address"] = _address(address1, address2, city, state, country, zip)
    return json.dumps(user)


# -- what several do ---------------------------------------------------------------------------------------------------


def _address(address1: str, address2: str, city: str, state: str, country: str, zip: str) -> Record:
    return {"address1": address1, "address2": address2, "city": city, "state": state, "country": country, "zip": zip}


def _in_state(world: World, order_id: str, status: str, doing: str) -> Record:
    order = world.need("orders", order_id)
    if order["status"] != status:
        raise Refused(f"non-{status} order cannot be {doing}")
    return order


def _held(order: Record, item_ids: Sequence[str]) -> None:
    """Raises Refused for no items, or an item that the order does not hold as often."""
    if not item_ids:
        raise Refused("no item is named")
    held = Counter(item["item_id"] for item in order["items"])
    for id, count in Counter(item_ids).items():
        if held[id] < count:
            raise Refused(
                f"item {id} not found in the order" if not held[id] else f"there are not {count} of item {id}"
            )


def _swaps(
    world: World, order: Record, item_ids: Sequence[str], new_item_ids: Sequence[str], doing: str
) -> list[tuple[Record, Record]]:
    """The items and what they become. Raises Refused where one cannot."""
    _held(order, item_ids)
    if len(item_ids) != len(new_item_ids):
        raise Refused(f"the number of items to be {doing} should match")
    swaps = []
    for old_id, new_id in zip(item_ids, new_item_ids, strict=True):
        old = next(item for item in order["items"] if item["item_id"] == old_id)
        new = world.need("products", old["product_id"])["variants"].get(new_id)
        if new is None or not new["available"]:
            raise Refused(f"new item {new_id} not found or available")
        swaps.append((old, new))
    return swaps


def _method(world: World, order: Record, id: str) -> Record:
    methods: Mapping[str, Record] = world.need("users", order["user_id"])["payment_methods"]
    if id not in methods:
        raise Refused("payment method not found")
    return methods[id]


def _afford(world: World, order: Record, id: str, amount: float) -> None:
    """Raises Refused for a method that the user has not, or a gift card that holds less."""
    method = _method(world, order, id)
    if method["source"] == "gift_card" and method["balance"] < amount:
        raise Refused("insufficient gift card balance to pay for it")


def _pay(world: World, user_id: str, id: str, amount: float) -> None:
    """Take from a gift card, or give back where the amount is negative; other methods are settled elsewhere."""
    if world.need("users", user_id)["payment_methods"].get(id, {}).get("source") == "gift_card":
        card = world.edit("users", user_id)["payment_methods"][id]
        card["balance"] = round(card["balance"] - amount, 2)


TOOLS: Mapping[str, Any] = {
    function.__name__: function
    for function in (
        cancel_pending_order,
        exchange_delivered_order_items,
        find_user_id_by_email,
        find_user_id_by_name_zip,
        get_order_details,
        get_product_details,
        get_user_details,
        list_all_product_types,
        modify_pending_order_address,
        modify_pending_order_items,
        modify_pending_order_payment,
        modify_user_address,
        return_delivered_order_items,
    )
}
"""Name -> function of the world and the arguments by name; raises Refused."""
