"""Settings of a run that goes on from another one, and whether it can."""

from __future__ import annotations

from mrff.config import FREE_KEYS, ONLY_OF, ConfigError, RunConfig
from mrff.data.dataset import load_catalogue

Values = dict[str, bool | int | float | str]


def inherited(values: Values) -> Values:
    """The settings with those of the run that ``run.start-from`` names, where none are given.

    The number of rounds and other settings that may differ in a resumed run are not taken over.
    Sizes that were left to the objective stay what they were, and draws are others than before.

    Raises:
        CheckpointError, ConfigError, RunError: there is no such run, or its settings cannot be
            read.
    """
    start, resume = (values.get(f"run.{leaf}", "off") for leaf in ("start-from", "resume"))
    if start == "off" or resume != "off":
        return values
    from mrff.ops.trained_run import read_json  # brings PyTorch
    from server_app.run.run_folder import named_run

    where = {key: value for key, value in values.items() if key in ("data.home", "run.start-from")}
    asked = RunConfig.from_flat(where)
    folder = named_run(asked, "start-from", asked.run.start_from or "")
    saved = read_json(folder.config)
    if not saved:
        raise ConfigError(
            f"run.start-from={folder.name}: {folder.config} is missing; it holds that run's "
            "settings"
        )
    earlier = RunConfig.from_flat(saved)
    taken = {key: value for key, value in earlier.to_flat().items() if key not in FREE_KEYS}
    taken |= {
        "network.feature-mix": earlier.feature_mix,
        "network.feature-dim": earlier.network_arguments()["feature_dim"],
        "training.seed": (earlier.training.seed + 1) % 2**63,
    }
    learned = values.get("training.objective", earlier.objective)
    for key, objectives in ONLY_OF.items():
        if learned not in objectives:
            del taken[key]
    return {**taken, **values}


def check_start(config: RunConfig) -> None:
    """Whether the run can go on from the one that ``start-from`` or ``resume`` names.

    Raises:
        CheckpointError, ConfigError: it cannot.
    """
    from server_app.beginning import check_same_data  # these bring PyTorch
    from server_app.continuing import continued_state
    from server_app.run.checkpoint import load_checkpoint
    from server_app.run.run_folder import named_run

    catalogue = load_catalogue(config.dataset_path)
    if config.run.resume:
        folder = named_run(config, "resume", config.run.resume)
        check_same_data(load_checkpoint(folder.checkpoints), config, catalogue.schema)
        return
    continued_state(config.for_data(catalogue.schema.kind), catalogue)
