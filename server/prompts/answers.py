"""What a model writes behind a prompt, cut out of a conversation that the template has rendered."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from server.errors import InvalidRequest


def answer_behind(prompt: str, whole: str) -> str:
    """The rest of a rendered conversation behind its prompt.

    Args:
        prompt: The messages before the answer, rendered to be answered; marks included.
        whole: The same messages and the answer, rendered with the same marks.

    Raises:
        InvalidRequest: The conversation does not begin with the prompt, so that a model trained on
            it would be asked differently later.
    """
    if not whole.startswith(prompt):
        raise InvalidRequest(
            "This model's chat template does not write an answer behind the prompt that asks for "
            "it, so it cannot be trained on. Choose another `template`.",
            param="template",
        )
    return whole[len(prompt) :]


def end_answer(ids: Sequence[int], stop_ids: Collection[int]) -> list[int] | None:
    """The ids up to the first one that ends an answer, it included; None where there is none.

    What a template writes behind it, the model never has to: generation has stopped.
    """
    for position, number in enumerate(ids):
        if number in stop_ids:
            return list(ids[: position + 1])
    return None
