"""The section about groups: what the history knows, and what only private state can tell."""

from __future__ import annotations

from pathlib import Path

from mrff.data.dataset import load_titles
from mrff.experiments.reports import group_charts
from mrff.experiments.reports.curves import Entries
from mrff.experiments.reports.groups import GroupPicture, group_picture
from mrff.experiments.reports.page import Page
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import RunError, find_run, load_best


def add_groups(page: Page, history: Entries, picture: GroupPicture | None, why_not: str) -> None:
    """Adds the section; without a picture, the reason ``why_not`` stands in its place."""
    page.section("Groups")
    entries = group_charts.entries_with_loads(history)
    if entries:
        for layer in range(len(entries[0]["loads"])):
            page.chart(
                group_charts.loads_figure(entries, layer),
                title=f"Layer {layer + 1}: users per group",
                caption="all users, at every validation"
                if entries[0]["kind"] == "validation"
                else "from the rounds' counts; noisy in a private mode",
            )
        page.chart(group_charts.entropy_figure(history), title="Evenness of the groups")
        if any(entry.get("churn") is not None for entry in history):
            page.chart(
                group_charts.churn_figure(history),
                title="Churn",
                caption="share of users with another group than when they were last trained",
            )
    else:
        page.text("No loads are known: in this run no count of routes left a node.")
    if picture is None:
        page.text(
            "The flow of users between groups and what groups like are left out: they need the "
            f"routes of single users, which never leave the nodes ({why_not})."
        )
        return
    page.text(
        "What follows is drawn from the private state of the nodes, which is at hand here because "
        "they ran on this machine. A server does not have it, and does not need it. No privacy "
        "guarantee covers it: mrff report --public leaves it out of a page that others may see."
    )
    if picture.flows:
        page.chart(
            group_charts.flow_figure(picture),
            title="Flow of users from layer to layer",
            caption=f"{picture.users:,} users at the best round; 1·2 is group 2 of layer 1, "
            "with its number of users",
            wide=True,
        )
    for layer, groups in enumerate(picture.layers):
        if any(group.likings for group in groups):
            page.chart(
                group_charts.likes_figure(groups),
                title=f"Layer {layer + 1}: what its groups like",
                caption="share of the group's likes in training data over the average share; "
                "drawn towards the average where likes are few",
            )
    for layer, groups in enumerate(picture.layers):
        headings = (f"layer {layer + 1}", "users", "like rate", "likes more than the average")
        page.table(headings, group_charts.likes_rows(groups, picture.users))


def read_picture(
    run: str, data_dir: Path | None, state_dir: Path | None
) -> tuple[GroupPicture | None, str]:
    """Who is in which group, from the private state at hand; or None, and why not."""
    try:
        best = load_best(find_run(run))
    except RunError as error:
        return None, str(error)
    nodes = NodesAtHand(best, data_dir, state_dir)
    if not nodes.has_private_state:
        return None, f"there is no private state in {nodes.state_folder}"
    try:
        titles = load_titles(nodes.dataset_folder)
        return group_picture(nodes.open_all(), best.round, titles), ""
    except (ValueError, OSError) as error:  # moved data, another run's state: the rest still holds
        return None, str(error)
