"""A shop whose catalogue grows: its files as they are at first, and what is added later."""

from __future__ import annotations

from pathlib import Path

TOML = """name = "shop"

[interactions]
file = "events.csv"
user = "customer"
item = "sku"
time = "when"
label = "stars >= 4"

[items]
file = "products.csv"
id = "sku"
title = "label"

[items.features]
item = "id"
brand = "categorical"
tags = { kind = "multi", separator = "|" }
price = { kind = "bucket", edges = [5, 20] }

[users]
file = "customers.csv"
id = "customer"

[users.features]
region = "categorical"
"""
PRODUCTS = ["s1,One,x,a|b,4", "s3,Three,y,a,20", "s5,Five,x,,5"]
EVENTS = ["bob,s3,1,5", "bob,s1,2,3", "dan,s5,1,4", "dan,s1,3,2"]
CUSTOMERS = ["bob,north", "dan,south"]
HEADERS = {"products": "sku,label,brand,tags,price", "events": "customer,sku,when,stars"}

NEW_PRODUCTS = ["s4,Four,w,c|a,30", "s2,Two,x,a|b|d,6"]  # a new brand between the known ones
NEW_EVENTS = ["ann,s4,5,5", "bob,s2,6,4", "cy,s1,7,1"]
NEW_CUSTOMERS = ["ann,east", "cy,south"]


def shop(
    folder: Path,
    *,
    products: list[str] = PRODUCTS,
    events: list[str] = EVENTS,
    customers: list[str] = CUSTOMERS,
    toml: str = TOML,
) -> Path:
    """Writes the files; returns the TOML that describes them."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = {**HEADERS, "customers": "customer,region"}
    for name, lines in (("products", products), ("events", events), ("customers", customers)):
        (folder / f"{name}.csv").write_text("\n".join([headers[name], *lines]) + "\n")
    (folder / "shop.toml").write_text(toml)
    return folder / "shop.toml"


def grown_shop(folder: Path) -> Path:
    """The same shop later: all rows of before, and new ones above and among them."""
    return shop(
        folder,
        products=[NEW_PRODUCTS[0], *PRODUCTS, NEW_PRODUCTS[1]],
        events=[*NEW_EVENTS, *EVENTS],
        customers=[*NEW_CUSTOMERS, *CUSTOMERS],
    )


ITEMS, USERS, MORE = 9, 12, 3
"""Of a shop to train on; later it has ``MORE`` of each."""


def trained_shop(folder: Path, *, grown: bool) -> Path:
    """Users with eight rows each; later everybody has one more, of an item that is new.

    New item 9 has a new brand, 10 and 11 a known one; nobody is taken from what was there.
    """
    items, users = ITEMS + MORE * grown, USERS + MORE * grown
    brands = [*"abc" * 3, "d", "a", "b"]
    events = []
    for user in range(users):
        for time in range(8):
            item = (5 * user + 3 * time) % (ITEMS if user < USERS else items)
            events.append(f"u{user},i{item},{time},{3 + (item + user + time // 3) % 3}")
        if grown:
            events.append(f"u{user},i{ITEMS + user % MORE},9,{4 + user % 2 * -2}")
    return shop(
        folder,
        products=[f"i{n},Item {n},{brands[n]},t{n % 2},{3 * n}" for n in range(items)],
        events=events,
        customers=[f"u{n},{'north' if n % 2 else 'south'}" for n in range(users)],
    )
