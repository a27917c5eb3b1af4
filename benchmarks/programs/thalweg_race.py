"""Thalweg to the target: its recipe `mnist-fast`, tested after each epoch like everyone else."""

from __future__ import annotations

from contract import Race, build_parser


def main() -> None:
    """Train by the package's own run; the clock includes reading the data, the plan and the checkpoints."""
    parser = build_parser(epochs=0, batch_size=0)
    options = parser.parse_args()

    import tempfile
    from dataclasses import replace

    from thalweg.api import plan_training

    overrides = {name: getattr(options, name) for name in ("epochs", "batch_size") if getattr(options, name)}
    with tempfile.TemporaryDirectory() as folder:
        run = plan_training(recipe="mnist-fast", out=f"{folder}/run", seed=options.seed, report=False, **overrides)
        dataset = run.parts.dataset
        # The race is decided on the test set after every epoch, so the validation of each epoch reads the test set.
        run.parts.dataset = replace(dataset, splits={**dataset.splits, "val": dataset.test})
        race = Race(options.target)
        for progress in run:
            if progress.val and race.add(progress.val["accuracy"]):
                break
        race.report()


if __name__ == "__main__":
    main()
