"""Character models: their sizes, how their weights begin, and that state is an argument and a result."""

from __future__ import annotations

import math
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg import registry
from thalweg.errors import OptionError
from thalweg.layers.recurrent import VariationalDropout
from thalweg.layers.recurrent_cells import trace_layer
from thalweg.models.write.mingru import scan_linear
from thalweg.models.write.sampling import Sampler, generate_tokens
from thalweg.models.write.stepping import Stepper

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
every_model = pytest.mark.parametrize("name", GATES)


def build(name: str, **kwargs):
    torch.manual_seed(0)
    return registry.get_models("write")[name](**{"num_tokens": 11, "width": 16, "embedding": 5, **kwargs}).eval()


def states_of(state) -> tuple:
    return state if isinstance(state, tuple) else (state,)


every_model_that_writes = pytest.mark.parametrize("name", registry.get_models("write"))


def build_any(name: str, **kwargs):
    torch.manual_seed(0)
    return registry.get_models("write")[name](**{"num_tokens": 11, "width": 16, "layers": 2, **kwargs}).eval()


@every_model_that_writes
def test_steps_with_carried_state_equal_one_call(name):
    model = build_any(name)
    tokens = torch.randint(0, 11, (3, 20))
    logits, end = model(tokens)
    pieces = []
    state = model.initial_state(3)
    for start in range(0, 20, 7):
        piece, state = model(tokens[:, start : start + 7], state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, 1), logits, atol=1e-5, rtol=0)
    for one, other in zip(states_of(state), states_of(end), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@every_model_that_writes
def test_no_token_sees_those_after_it(name):
    model = build_any(name)
    tokens = torch.randint(0, 11, (1, 12))
    other = tokens.clone()
    other[0, 7:] = (other[0, 7:] + 1) % 11
    torch.testing.assert_close(model(tokens)[0][:, :7], model(other)[0][:, :7], atol=1e-6, rtol=0)
    assert not torch.allclose(model(tokens)[0][:, 7:], model(other)[0][:, 7:])


def test_attention_reaches_back_context_tokens_in_each_layer():
    model = build_any("gpt", layers=1, context=4)
    tokens = torch.randint(0, 11, (1, 12))
    for distance, is_seen in ((3, True), (4, False)):
        other = tokens.clone()
        other[0, 11 - distance] = (other[0, 11 - distance] + 1) % 11
        assert torch.allclose(model(tokens)[0][0, -1], model(other)[0][0, -1], atol=1e-7) is not is_seen


@pytest.mark.parametrize("length", [1, 2, 5, 64, 100])
def test_the_parallel_scan_equals_the_loop(length):
    torch.manual_seed(0)
    keep = torch.rand(2, length, 3)
    inputs = torch.randn(2, length, 3)
    states = []
    state = torch.zeros(2, 3)
    for step in range(length):
        state = keep[:, step] * state + inputs[:, step]
        states.append(state)
    torch.testing.assert_close(scan_linear(keep, inputs), torch.stack(states, 1), atol=1e-5, rtol=0)


@every_model
@pytest.mark.parametrize(("tokens", "layers", "width", "embedding"), [(66, 2, 256, 64), (11, 1, 7, 3), (5, 3, 8, 8)])
def test_parameters_are_those_of_the_formula(name, tokens, layers, width, embedding):
    model = build(name, num_tokens=tokens, layers=layers, width=width, embedding=embedding)
    expected = tokens * embedding + (width + 1) * tokens
    for layer in range(layers):
        inputs = embedding if layer == 0 else width
        expected += GATES[name] * (inputs * width + width * width + 2 * width)
    assert sum(weight.numel() for weight in model.parameters()) == expected


@every_model
def test_two_calls_with_carried_state_equal_one_call(name):
    model = build(name, layers=2, dropout=0.3)
    tokens = torch.randint(0, 11, (3, 20))
    logits, end = model(tokens)
    first, state = model(tokens[:, :13])
    second, state = model(tokens[:, 13:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), logits, atol=1e-6, rtol=0)
    for one, other in zip(states_of(state), states_of(end), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@every_model
def test_no_state_is_the_initial_state(name):
    model = build(name, layers=2)
    tokens = torch.randint(0, 11, (3, 4))
    initial = model.initial_state(3)
    assert isinstance(initial, tuple) == (name == "lstm")
    assert all(state.shape == (2, 3, 16) and not state.any() for state in states_of(initial))
    assert torch.equal(model(tokens, initial)[0], model(tokens)[0])


@every_model
def test_logits_are_head_of_features(name):
    model = build(name)
    tokens = torch.randint(0, 11, (2, 6))
    features, _ = model.features(tokens)
    assert features.shape == (2, 6, 16)
    assert torch.equal(model.head(features), model(tokens)[0])


@every_model
def test_the_future_does_not_change_the_past(name):
    model = build(name)
    tokens = torch.randint(0, 11, (1, 8))
    other = tokens.clone()
    other[0, 5:] = (other[0, 5:] + 1) % 11
    assert torch.equal(model(tokens)[0][:, :5], model(other)[0][:, :5])


@every_model
def test_recurrent_matrices_are_orthogonal_per_gate_and_forget_gates_begin_open(name):
    rnn = build(name, layers=2).features.rnn
    for layer in range(2):
        weights = rnn.layers[layer]
        gates = weights.weight_hh_l0.split(16)
        assert len(gates) == GATES[name]
        for gate in gates:
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), atol=1e-5, rtol=0)
        bias = weights.bias_ih_l0 + weights.bias_hh_l0
        expected = torch.zeros_like(bias)
        if name == "lstm":
            expected[16:32] = 1
        assert torch.equal(bias, expected)


@every_model
def test_gradients_reach_every_weight(name):
    model = build(name, layers=2).train()
    logits, _ = model(torch.randint(0, 11, (4, 9)))
    logits.square().sum().backward()
    for key, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, key


@every_model
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_tokens", 0),
        ("layers", 0),
        ("width", -1),
        ("width", 2.5),
        ("embedding", 0),
        ("dropout", 1.0),
        ("weight_drop", 1),
        ("memory", 1),
    ],
)
def test_impossible_sizes_are_refused_by_name(name, option, value):
    with pytest.raises(OptionError) as error:
        build(name, **{option: value})
    assert error.value.option == option and error.value.value == value


@every_model
def test_cells_written_out_equal_the_fused_layers(name):
    layer = build(name).features.rnn.layers[0]
    x = torch.randn(3, 40, 5)
    output, state = layer(x)
    trace = trace_layer(layer, x)
    torch.testing.assert_close(trace.hidden_BTD, output, atol=1e-5, rtol=0)
    assert (trace.cell_BTD is None) == (name != "lstm")
    if trace.cell_BTD is not None:
        torch.testing.assert_close(trace.cell_BTD[:, -1], state[1][0], atol=1e-5, rtol=0)
    for gate, values in trace.gates.items():
        low = -1 if gate == "candidate" else 0
        assert values.shape == output.shape and values.min() >= low and values.max() <= 1
    states = (output[:, 9],) if trace.cell_BTD is None else (output[:, 9], trace.cell_BTD[:, 9])
    torch.testing.assert_close(trace_layer(layer, x[:, 10:], states).hidden_BTD, output[:, 10:], atol=1e-5, rtol=0)


@every_model
@pytest.mark.parametrize("settings", [{}, {"layers": 3, "layer_norm": True}, {"layers": 2, "tied": True}])
def test_single_steps_equal_the_forward_pass(name, settings):
    model = build(name, **settings)
    tokens = torch.randint(0, 11, (30,))
    stepper = Stepper(model)
    logits = torch.stack([stepper.step(token) for token in tokens.tolist()])
    torch.testing.assert_close(logits, model(tokens[None])[0][0], atol=1e-5, rtol=0)


def test_chrono_initialization_opens_the_gates_for_times_up_to_memory():
    lstm = build("lstm", width=400, memory=100).features.rnn.layers[0]
    times = lstm.bias_ih_l0[400:800].exp()
    assert 1 <= times.min() < 5 and 90 < times.max() <= 99
    torch.testing.assert_close(lstm.bias_ih_l0[:400], -lstm.bias_ih_l0[400:800])
    gru = build("gru", width=400, memory=100).features.rnn.layers[0]
    assert 1 <= gru.bias_ih_l0[400:800].exp().min() and not gru.bias_ih_l0[:400].any()


def test_variational_dropout_keeps_its_mask_for_all_steps():
    torch.manual_seed(0)
    dropout = VariationalDropout(0.5)
    output = dropout(torch.ones(64, 7, 5))
    assert torch.equal(output, output[:, :1].expand_as(output)) and set(output.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < float((output > 0).float().mean()) < 0.6
    assert torch.equal(dropout.eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))


@every_model
def test_weight_drop_changes_training_only(name):
    model = build(name, weight_drop=0.5, dropout=0.0)
    tokens = torch.randint(0, 11, (2, 20))
    still = model(tokens)[0]
    assert torch.equal(model(tokens)[0], still)
    model.train()
    assert not torch.equal(model(tokens)[0], model(tokens)[0])
    model(tokens)[0].sum().backward()
    assert model.features.rnn.layers[0].weight_hh_l0.grad is not None


def test_tied_embeddings_are_stored_once():
    model = build("lstm", tied=True)
    assert not any("embedding" in name for name, _ in model.head.named_parameters())
    logits = model(torch.tensor([[1, 2]]))[0]
    logits.sum().backward()
    assert model.features.embedding.weight.grad.abs().sum() > 0


# --- sampling ---------------------------------------------------------------------------------------------------------


def reference_distribution(logits: list[float], temperature: float, top_k: int | None, top_p: float | None):
    """The definition, token by token."""
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    probabilities = [w / sum(weights) for w in weights]
    order = sorted(range(len(logits)), key=lambda i: (-probabilities[i], i))[: top_k or len(logits)]
    total = sum(probabilities[i] for i in order)
    kept, mass = [], 0.0
    for i in order:
        if top_p is None or mass < top_p:
            kept.append(i)
            mass += probabilities[i] / total
    total = sum(probabilities[i] for i in kept)
    return [probabilities[i] / total if i in kept else 0.0 for i in range(len(logits))]


@given(
    st.lists(st.floats(-8, 8), min_size=1, max_size=12),
    st.floats(0.05, 5),
    st.none() | st.integers(1, 15),
    st.none() | st.floats(0.01, 1),
)
def test_probabilities_equal_the_definition(logits, temperature, top_k, top_p):
    got = Sampler(temperature, top_k, top_p).probabilities(torch.tensor(logits, dtype=torch.float64))
    expected = reference_distribution(logits, temperature, top_k, top_p)
    assert got.sum() == pytest.approx(1)
    if top_p is None:
        assert got.tolist() == pytest.approx(expected, abs=1e-9)
    else:  # a sum that hits top_p to the last bit may fall on either side
        assert sorted(got.tolist())[-1] == pytest.approx(max(expected), abs=1e-6) or abs(got.max() - top_p) < 1e-6


def test_top_k_and_top_p_cut_the_tail():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()
    assert Sampler(top_k=2).probabilities(logits).tolist() == pytest.approx([0.625, 0.375, 0, 0])
    assert Sampler(top_p=0.7).probabilities(logits).tolist() == pytest.approx([0.625, 0.375, 0, 0])
    assert Sampler(top_p=0.01).probabilities(logits).tolist() == pytest.approx([1, 0, 0, 0])
    assert Sampler(top_k=3, top_p=0.9).probabilities(logits).tolist() == pytest.approx(
        [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]
    )
    assert Sampler(temperature=0.5).probabilities(logits).tolist() == pytest.approx(
        [0.6849, 0.2466, 0.0616, 0.0068], abs=1e-4
    )


def test_a_tiny_temperature_takes_the_most_probable_token():
    assert Sampler(temperature=1e-9).probabilities(torch.tensor([1.0, 3.0, 2.0])).tolist() == [0, 1, 0]


def test_forbidden_tokens_are_never_drawn_and_the_seed_decides():
    model = build("gru")
    drawn = list(islice(generate_tokens(model, [1, 2], Sampler(3.0), seed=7, forbidden=[0, 4]), 300))
    assert not {0, 4} & set(drawn) and len(set(drawn)) > 5
    assert drawn == list(islice(generate_tokens(model, [1, 2], Sampler(3.0), seed=7, forbidden=[0, 4]), 300))
    assert drawn != list(islice(generate_tokens(model, [1, 2], Sampler(3.0), seed=8, forbidden=[0, 4]), 300))


def test_tokens_are_drawn_as_often_as_the_model_says():
    model = build("rnn")
    with torch.inference_mode():
        expected = model(torch.tensor([[3]]))[0][0, -1].softmax(0)
    first = [next(generate_tokens(model, [3], Sampler(), seed)) for seed in range(4000)]
    frequency = torch.bincount(torch.tensor(first), minlength=11) / 4000
    assert (frequency - expected).abs().max() < 0.03
