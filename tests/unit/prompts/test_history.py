from __future__ import annotations

from server.prompts.conversation import Message
from server.prompts.history import apply_history

S = Message("system", "S")
U1 = Message("user", "U1", input="X1")
A1 = Message("assistant", "A1")
T1 = Message("tool", "T1")
U2 = Message("user", "U2", input="X2")
A2 = Message("assistant", "A2")


def test_turns_changes_nothing() -> None:
    assert apply_history([S, U1, A1, U2], "turns") == (S, U1, A1, U2)


def test_fold_writes_earlier_turns_into_one() -> None:
    folded = Message("user", "User: U1\nX1\nAssistant: A1\nTool: T1\nUser: U2", input="X2")
    assert apply_history([S, U1, A1, T1, U2], "fold") == (S, folded)


def test_fold_leaves_a_single_turn_alone() -> None:
    assert apply_history([S, U1], "fold") == (S, U1)
    assert apply_history([U1, A1], "fold") == (U1, A1)


def test_fold_keeps_the_answer_to_continue() -> None:
    folded = Message("user", "User: U1\nX1\nAssistant: A1\nUser: U2", input="X2")
    assert apply_history([U1, A1, U2, A2], "fold") == (folded, A2)


def test_none_keeps_system_and_last_turn() -> None:
    assert apply_history([S, U1, A1, U2], "none") == (S, U2)
    assert apply_history([S, U1, A1, U2, A2], "none") == (S, U2, A2)


def test_none_keeps_every_system_text() -> None:
    late = Message("system", "S2")
    kept = apply_history([S, U1, A1, late, U2], "none")
    assert kept == (Message("system", "S\n\nS2"), U2)


def test_none_without_a_user() -> None:
    assert apply_history([S], "none") == (S,)
    assert apply_history([S, T1], "none") == (S, T1)
    assert apply_history([A1], "none") == (A1,)
