"""What people call: training, evaluation and profiling wired together. No other file does that."""

from pathlib import Path

from seaanchor.config.schema import RunConfig


def train_from_config(config: RunConfig) -> Path:
    """Train, evaluate and export the run that a configuration describes; returns its folder.

    Raises:
        SeaAnchorError: settings that do not go together, bad data or weights, a run folder in use, a loss that is not
            finite, a lost process, too little memory.
    """
    from seaanchor.evaluation.quick_accuracy import quick_accuracy
    from seaanchor.profiling.memory_advice import training_advice
    from seaanchor.training.run import Hooks, train

    return train(config, Hooks(quick_accuracy, training_advice))
