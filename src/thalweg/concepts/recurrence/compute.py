"""A recurrent network unrolled over a text: what its gates and its states do at every character.

Elman 1990, doi:10.1207/s15516709cog1402_1; Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; Cho et al.
2014, arXiv:1406.1078. The colors per character follow Karpathy, Johnson and Fei-Fei 2015, arXiv:1506.02078.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config.parsing import Range
from ...errors import OptionError
from ...layers.recurrent_cells import trace_layer
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from .character_network import CharacterNetwork, build_network, train_network

TEXT = load_text(__package__)

#: characters that are predicted at each step
NUM_PREDICTED = 3
#: shorter texts have nothing to predict
MIN_CHARACTERS = 3
#: a gate below the first is closed, above the second open
CLOSED, OPEN = 0.1, 0.9


@dataclass(frozen=True)
class RecurrenceSettings:
    """Settings of the network, its training, and what is shown."""

    cell: Annotated[Literal["rnn", "gru", "lstm"], "type of the recurrent layer"] = "lstm"
    width: Annotated[int, "neurons of the layer", Range(1, 64)] = 12
    steps: Annotated[int, "training steps on the text; 0 shows random weights", Range(0, 5000)] = 200
    characters: Annotated[int, "characters that are shown, one per frame", Range(2, 60)] = 32
    seed: Annotated[int, "seed of weights and training", Range(0, 2**31)] = 0


class TextInput(TypedDict, total=False):
    """The user's text, its title, and notes."""

    text: str
    title: str
    notes: Sequence[str]


@dataclass(frozen=True)
class CharacterGuess:
    """A character that may come next, and its probability."""

    character: str
    probability: float


@dataclass(frozen=True)
class RecurrenceNumbers:
    """Everything that is shown; lists of T steps hold D neurons each.

    Attributes:
        title: Name of the text.
        text: The T characters that are read.
        next_character: The character behind them; empty at the end of the text.
        alphabet: All characters of the text.
        cell: rnn, gru or lstm.
        width: Neurons D.
        steps: Training steps.
        loss_before: Nats per character before training, and `loss_after` after it.
        hidden: Hidden state h after each character.
        cell_state: Cell state c of an LSTM; None for others.
        gates: Gates by name.
        guesses: The most probable next characters after each step.
        next_probability: Probability of the character that comes.
        difference: Largest difference between these states and those of torch's own layer.
    """

    title: str
    text: str
    next_character: str
    alphabet: list[str]
    cell: str
    width: int
    steps: int
    loss_before: float
    loss_after: float
    hidden: list[list[float]]
    cell_state: list[list[float]] | None
    gates: dict[str, list[list[float]]]
    guesses: list[list[CharacterGuess]]
    next_probability: list[float | None]
    difference: float


@register_concept(TEXT, RecurrenceSettings, input_kind="text")
def recurrence(settings: RecurrenceSettings, **inputs: Unpack[TextInput]) -> ConceptResult:
    """Train a tiny character network on the text, then unroll it over the first characters.

    Raises OptionError for a text of fewer than MIN_CHARACTERS characters.
    """
    numbers = compute_recurrence(settings, inputs.get("text", ""), inputs.get("title", "the text"))
    return ConceptResult(
        asdict(numbers),
        _build_frames(numbers),
        key_numbers=_key_numbers(numbers),
        notes=[*inputs.get("notes", ()), *_collect_notes(numbers)],
    )


def compute_recurrence(settings: RecurrenceSettings, text: str, title: str) -> RecurrenceNumbers:
    """Train, unroll, and record everything.

    Args:
        settings: Cell, sizes and training.
        text: The text; its characters are the alphabet.
        title: Its name.

    Returns:
        States, gates and predictions.

    Raises:
        OptionError: For a text of fewer than MIN_CHARACTERS characters.
    """
    if len(text) < MIN_CHARACTERS:
        raise OptionError(
            f"The text has {len(text)} characters; expected at least {MIN_CHARACTERS}.",
            "Give a sentence.",
            value=text,
        )
    alphabet = sorted(set(text))
    tokens_N = torch.tensor([alphabet.index(character) for character in text])
    network = build_network(settings.cell, len(alphabet), settings.width, settings.seed)
    before, after = train_network(network, tokens_N, settings.steps, settings.seed)
    count = min(settings.characters, len(text))
    with torch.no_grad():
        return _unroll(settings, network, tokens_N[: count + 1], (text, title, alphabet), (before, after))


def _unroll(
    settings: RecurrenceSettings,
    network: CharacterNetwork,
    tokens_N: Tensor,
    source: tuple[str, str, list[str]],
    losses: tuple[float, float],
) -> RecurrenceNumbers:
    """Read the first characters gate by gate; `source` is text, title and alphabet."""
    text, title, alphabet = source
    count = min(settings.characters, len(text))
    x_1TV = F.one_hot(tokens_N[None, :count], len(alphabet)).float()
    trace = trace_layer(network.layer, x_1TV)
    fused_1TD, _ = network.layer(x_1TV)
    probability_TV = network.head(trace.hidden_BTD[0]).softmax(-1)
    next_probability: list[float | None] = [None] * count
    for step, token in enumerate(tokens_N[1:].tolist()):
        next_probability[step] = float(probability_TV[step, token])
    return RecurrenceNumbers(
        title=title,
        text=text[:count],
        next_character=text[count : count + 1],
        alphabet=alphabet,
        cell=settings.cell,
        width=settings.width,
        steps=settings.steps,
        loss_before=losses[0],
        loss_after=losses[1],
        hidden=trace.hidden_BTD[0].tolist(),
        cell_state=None if trace.cell_BTD is None else trace.cell_BTD[0].tolist(),
        gates={name: gate_BTD[0].tolist() for name, gate_BTD in trace.gates.items()},
        guesses=_guess_next(probability_TV, alphabet),
        next_probability=next_probability,
        difference=float((trace.hidden_BTD - fused_1TD).abs().max()),
    )


def _guess_next(probability_TV: Tensor, alphabet: list[str]) -> list[list[CharacterGuess]]:
    """Return the most probable characters of each step."""
    values_TK, tokens_TK = probability_TV.topk(min(NUM_PREDICTED, len(alphabet)))
    guesses = []
    for values, tokens in zip(values_TK.tolist(), tokens_TK.tolist(), strict=True):
        step_guesses = []
        for probability, token in zip(values, tokens, strict=True):
            step_guesses.append(CharacterGuess(alphabet[token], probability))
        guesses.append(step_guesses)
    return guesses


# --- words ------------------------------------------------------------------------------------------------------------


def _build_frames(numbers: RecurrenceNumbers) -> list[Frame]:
    from .plot import plot_recurrence

    frames = []
    for step in range(len(numbers.text)):
        frames.append(Frame(_frame_caption(numbers, step), plot_recurrence, (numbers, step)))
    return frames


def _frame_caption(numbers: RecurrenceNumbers, step: int) -> str:
    guess = numbers.guesses[step][0]
    text = f"Step {step + 1}: reads {show_character(numbers.text[step])}. {_describe_gates(numbers, step)}"
    text += f" Next it expects {show_character(guess.character)} ({100 * guess.probability:.0f} %)"
    follower = (numbers.text + numbers.next_character)[step + 1 : step + 2]
    if not follower:
        return f"{text}; the text ends here."
    return f"{text}; {show_character(follower)} comes ({100 * (numbers.next_probability[step] or 0):.0f} %)."


def _describe_gates(numbers: RecurrenceNumbers, step: int) -> str:
    """Say what the gates do on average."""
    if numbers.cell == "lstm":
        old = _mean(numbers.gates["forget"][step])
        new = _mean(numbers.gates["input"][step])
        return f"On average it keeps {100 * old:.0f} % of the cell state and lets in {100 * new:.0f} % of the new."
    if numbers.cell == "gru":
        old = _mean(numbers.gates["update"][step])
        return f"On average {100 * old:.0f} % of the old state stays and {100 * (1 - old):.0f} % is new."
    return "The new state is computed from the character and the old state."


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def show_character(character: str) -> str:
    """Return a character in quotes; white space and controls by name."""
    names = {" ": "a space", "\n": "a line feed", "\t": "a tab"}
    if character in names:
        return names[character]
    return f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"


def _key_numbers(numbers: RecurrenceNumbers) -> dict[str, str]:
    key_numbers = {
        "nats per character": f"{numbers.loss_after:.3f} after {numbers.steps} training steps; "
        f"{numbers.loss_before:.3f} before",
        "difference from torch's fused layer": f"{numbers.difference:.0e} at most",
    }
    for name, gate_TD in numbers.gates.items():
        if name == "candidate":
            continue
        values = [value for row in gate_TD for value in row]
        closed = sum(value < CLOSED for value in values) / len(values)
        is_open = sum(value > OPEN for value in values) / len(values)
        key_numbers[f"{name} gate"] = (
            f"{_mean(values):.2f} on average; {100 * closed:.0f} % below {CLOSED:g}, "
            f"{100 * is_open:.0f} % above {OPEN:g}"
        )
    return key_numbers


def _collect_notes(numbers: RecurrenceNumbers) -> list[str]:
    if not numbers.steps:
        return ["The network is not trained: weights are random, and so is what it expects."]
    return [
        f"The network is trained for {numbers.steps} steps on the very text that it reads here, so it may know it by "
        "heart."
    ]
