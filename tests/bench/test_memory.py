"""Saved bytes, by hand on graphs of one or two operations."""

import torch

from bench.memory import saved_bytes


def test_a_product_saves_what_its_gradients_need():
    a, b = torch.randn(10, 20, requires_grad=True), torch.randn(20, 30, requires_grad=True)
    assert saved_bytes(lambda: (a @ b).sum().backward(), ()) == 4 * (10 * 20 + 20 * 30)
    assert saved_bytes(lambda: (a @ b).sum().backward(), (b,)) == 4 * 10 * 20
    b.requires_grad_(False)  # then the gradient to b is not needed, nor a for it
    assert saved_bytes(lambda: (a @ b).sum().backward(), ()) == 4 * 20 * 30


def test_views_of_one_storage_count_once():
    a = torch.randn(100, requires_grad=True)

    def run():
        b = a.exp()  # saves its result
        (b[:50] * b[50:]).sum().backward()  # saves both halves of it

    assert saved_bytes(run, ()) == 4 * 100


def test_only_what_is_alive_together_adds_up():
    a = torch.randn(100, requires_grad=True)

    def one_after_the_other():
        for _ in range(3):
            a.exp().sum().backward()

    def together():
        graphs = [a.exp() for _ in range(3)]
        sum(graph.sum() for graph in graphs).backward()

    assert saved_bytes(one_after_the_other, ()) == 400 and saved_bytes(together, ()) == 1200


def test_nothing_is_saved_without_gradients():
    a = torch.randn(100, requires_grad=True)
    with torch.no_grad():
        assert saved_bytes(a.exp, ()) == 0
