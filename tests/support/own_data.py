"""The example of docs/data.md: the TOML in the documentation, and files that it describes."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "data.md"

EVENTS_1 = """customer,sku,when,stars
ann,s1,2024-01-02,5
ann,s2,2024-01-01,2
ann,s1,2024-01-03,1
bob,s9,2024-01-01,5
bob,s3,soon,5
"""
EVENTS_2 = "customer,sku,when,stars\ncy,s3,2024-02-01,4\nbob,s3,2024-02-01\nbob,s2,2024-03-01,4\n"
PRODUCTS = (
    "sku\tlabel\tbrand\ttags\tprice_eur\ns1\tOne\tx\ta|b\t4\ns2\tTwo\ty\t\t20\ns3\tThree\t\tb\t\n"
)
CUSTOMERS = "number;region;age\nann;north;17\nbob;west;50\n"


def example(folder: Path) -> Path:
    """The files that the documented TOML describes."""
    (text,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (folder / "shop.toml").write_text(text)
    (folder / "events-1.csv").write_text(EVENTS_1)
    (folder / "events-2.csv.gz").write_bytes(gzip.compress(EVENTS_2.encode()))
    (folder / "products.tsv").write_text(PRODUCTS)
    (folder / "customers.csv").write_text(CUSTOMERS)
    return folder / "shop.toml"
