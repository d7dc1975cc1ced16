"""`fieldmark train`: microDL's training command, by its own options."""

from __future__ import annotations

from pathlib import Path

import click

from fieldmark.faces.cli.many import UnusedOption


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="microDL's training YAML, or OpenFIBSEM's config.yaml.")
@click.option("--gpu", type=click.IntRange(-1), help="The one GPU to use; -1 for none. By itself all that are there.")
@click.option("--gpu-mem-frac", cls=UnusedOption, type=float, help="memory is taken as it is needed.")
@click.option("--model-fname", type=click.Path(path_type=Path), help="A model folder whose weights to begin with.")
@click.option("--action", type=click.Choice(["train"]), default="train", hidden=True)
@click.option("--port", cls=UnusedOption, type=int, hidden=True, help="no server is started.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting of Fieldmark's recipe (not of the file).",
)
@click.option("--name", help="The model's name below the folder that models are saved in.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def train(
    config: Path | None,
    gpu: int | None,
    model_fname: Path | None,
    action: str,
    overrides: tuple[str, ...],
    name: str | None,
    as_json: bool,
) -> None:
    """Fit a model as a config says: the same as `fieldmark fit --config`."""
    from fieldmark.faces.cli.fit import fit_config

    if config is None:
        raise click.UsageError("Say what to train: --config FILE.")
    if gpu == -1:
        overrides = (*overrides, "accelerator=cpu")
    fit_config(config, overrides, name, () if gpu in (None, -1) else (gpu,), begin=model_fname, as_json=as_json)
