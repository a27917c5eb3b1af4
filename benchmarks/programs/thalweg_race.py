"""Thalweg to the target: its recipe `mnist-fast`, the test set asked after each epoch as of everybody."""

from __future__ import annotations

from contract import Race, arguments


def main() -> None:
    """Trains by the package's own session; the clock includes reading the data, the plan and the checkpoints."""
    parser = arguments(epochs=0, batch=0)
    options = parser.parse_args()

    import tempfile
    from dataclasses import replace

    from thalweg.api import plan_training

    given = {name: value for name, value in (("epochs", options.epochs), ("batch", options.batch)) if value}
    with tempfile.TemporaryDirectory() as folder:
        run = plan_training(recipe="mnist-fast", out=f"{folder}/run", seed=options.seed, report=False, **given)
        session = run.session
        # The race is judged on the test set after every epoch, so that is what the validation of each epoch looks at.
        session.data = replace(session.data, valid=session.data.test)
        race = Race(options.target)
        for progress in run:
            if progress.valid and race.over(progress.valid["accuracy"]):
                break
        race.report()


if __name__ == "__main__":
    main()
