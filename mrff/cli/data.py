"""``mrff data``: list the known datasets, prepare one, describe it, spread it over nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mrff.cli.terminal import AsJson, Dataset, print_json, print_table

commands = typer.Typer(help="Prepare, describe and shard datasets.", rich_markup_mode="rich")
TITLES = {
    "log_loss": "log loss", "lists_by": "lists by", "hr10": "HR@10", "ndcg10": "NDCG@10",
    "mrr10": "MRR@10",
}  # fmt: skip
Made = Annotated[int | None, typer.Option(metavar="N", help="Synthetic only.")]


@commands.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """The datasets that can be prepared."""
    from mrff.ops.datasets import known_datasets  # pyarrow is slow to import

    known = known_datasets()
    if as_json:
        print_json(known)
        return
    shown = [{**line, "prepared": "yes" if line["prepared"] else ""} for line in known]
    print_table(list(known[0]), (line.values() for line in shown))


@commands.command("prepare")
def prepare(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH",
            help="The files to read: a folder or archive; for csv the TOML that describes them.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write (default: HOME/data/NAME).")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Replace what is there instead of extending it.")
    ] = False,
    users: Made = None,
    items: Made = None,
    groups: Made = None,
    facets: Made = None,
    events_per_user: Made = None,
    seed: Made = None,
    sparse: Made = None,
    positive_percent: Made = None,
) -> None:  # fmt: skip
    """Make a dataset ready for training; one that is there already grows.

    NAME is one that mrff data list shows.
    """
    from mrff.data.warnings import order_of, warnings_of  # pyarrow is slow to import
    from mrff.ops.datasets import prepare_dataset

    options = {
        "users": users, "items": items, "groups": groups, "facets": facets,
        "events_per_user": events_per_user, "seed": seed,
        "sparse": sparse, "positive_percent": positive_percent,
    }  # fmt: skip
    given = {option: value for option, value in options.items() if value is not None}
    schema, folder = prepare_dataset(name, source=source, out=out, options=given, anew=anew)
    print(f"{schema.name}: {_counted(schema.kind, schema.counts)}")
    _print_grown(schema.version, schema.counts)
    _print_dropped(schema.counts)
    _print_warnings(warnings_of(schema, order_of(folder, schema)))
    print(f"prepared in {folder}")


@commands.command("append")
def append(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER")],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="TOML", help="Describes the files of the new rows."),
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A later version of the catalogue, to take before."),
    ] = None,
) -> None:
    """Add rows to a prepared folder, such as a node's shard.

    FOLDER keeps its codes; rows of items that its catalogue does not have are counted.
    """
    from mrff.ops.datasets import append_to  # pyarrow is slow to import

    if source is None and catalogue is None:
        raise typer.BadParameter("give --from TOML, --catalogue DIR, or both")
    done = append_to(folder, source=source, catalogue=catalogue)
    print(f"{done.schema.name}: {_counted(done.schema.kind, done.schema.counts)}")
    print(f"appended: {done.rows:,} rows; version {done.schema.version} of the catalogue")
    _print_dropped({"dropped": done.left_out})


@commands.command("describe")
def describe(
    dataset: Dataset,
    holdout: Annotated[int, typer.Option(metavar="K", help="Rows held out for each part.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What is in a prepared dataset.

    DATASET is its folder, or the name under which it was prepared.
    """
    from mrff.ops.datasets import describe as described  # pyarrow is slow to import

    found = described(dataset, holdout=holdout)
    if as_json:
        print_json(found)
        return
    counts, users = found["counts"], found["users"]
    print(f"{found['name']} in {found['folder']}")
    public = f"the public part only: {found['items']:,} items"
    rows = _counted(found["kind"], counts) if users else public
    print(f"{rows}; {found['kind']}; label: {found['label']}")
    if users:
        sizes = "interactions of a user: {fewest} to {most:,}, median {median}"
        print(sizes.format(**users["interactions"]))
    for key, value in found["source"].items():
        print(f"source {key}: {_short(value)}")
    _print_dropped(counts)
    _print_grown(found["version"], counts)
    print(f"schema hash {found['schema_hash']}, content hash {found['content_hash']}")
    features = [
        (
            *(line[key] for key in ("feature", "of", "kind", "codes")),
            f"up to {line['most_values']}" if line["kind"] == "multi" else "1",
        )
        for line in found["features"]
    ]
    print_table(("feature", "of", "kind", "codes", "values per row"), features)
    if users:
        _print_floors(users)
    _print_warnings(found["warnings"])


@commands.command("shard")
def shard(
    dataset: Dataset,
    nodes: Annotated[int, typer.Option(metavar="N", help="How many.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder for each node.")],
) -> None:
    """Spread a dataset's users over nodes.

    DATASET is its folder, or the name under which it was prepared.
    """
    from mrff.data.shard import shard as sharded  # pyarrow is slow to import
    from mrff.ops.datasets import dataset_folder

    users = [schema.counts["users"] for schema in sharded(dataset_folder(dataset), out, nodes)]
    share = " to ".join(str(n) for n in sorted({min(users), max(users)}))
    folder = out.expanduser().absolute()
    print(f"{nodes} nodes with {share} users each in {folder}/node-*, catalogue in {folder}/server")


def _print_floors(users: dict[str, Any]) -> None:
    """The floors of both parts; a line with the reason where there are none."""
    for part, reason in users["no_floors"].items():
        print(f"no floors for {part}: {reason}")
    if users["split"] is None:
        return
    print(
        "split with holdout {holdout}: {users:,} users, {too_short:,} too short (these only "
        "train), {targets:,} test targets; predictors that pool the training rows:".format(
            **users["split"]
        )
    )
    if users["split"]["same_time"]:
        print(
            "{same_time:,} of the test targets have the timestamp of the user's row before "
            "(data.same-time)".format(**users["split"])
        )
    for lines, columns in (
        (users["predictors"], ("predictor", "part", "auc", "log_loss")),
        (users["lists"], ("lists_by", "part", "hr10", "ndcg10", "mrr10")),
    ):
        shown = [
            [v if isinstance(v, str) else f"{v:.4f}" for v in map(line.get, columns)]
            for line in lines
        ]
        if shown:
            print_table([TITLES.get(name, name) for name in columns], shown)


def _counted(kind: str, counts: Mapping[str, Any]) -> str:
    rows = f"{counts['interactions']:,} " + ("events" if kind == "events" else "interactions")
    if kind != "events":
        rows += f", {counts['positive'] / counts['interactions']:.1%} positive"
    return f"{counts['users']:,} users, {counts['items']:,} items, {rows}"


def _print_warnings(warnings: Sequence[str]) -> None:
    for line in warnings:
        print(f"warning: {line}")


def _print_grown(version: int, counts: Mapping[str, Any]) -> None:
    if "grown" in counts:
        told = ", ".join(f"{count:,} {what}" for what, count in counts["grown"].items())
        print(f"version {version} of its catalogue; since it was prepared last: {told or 'rows'}")


def _print_dropped(counts: Mapping[str, Any]) -> None:
    for reason, count in counts.get("dropped", {}).items():
        print(f"dropped: {count:,} {reason}")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_short(item)}" for key, item in value.items())
    text = str(value)
    return text if len(text) <= 64 else text[:61] + "..."
