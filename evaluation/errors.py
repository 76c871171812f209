"""Every failure that is raised on purpose. The command line gives each its exit code.

EvaluationError
├── WrongUsage           2   flags that do not go together
├── WrongInput           65  a task file or a held-out file
├── EndpointError        69  no server there, or none that answers
│   ├── KeyRefused       77
│   ├── ModelMissing     69
│   └── CannotScore      69  an endpoint without what likelihoods need
├── RequestRefused       -   one request only; noted beside its item, and the run goes on
├── RunnerMissing        69  an optional program that is not installed
└── OtherRun             65  the folder holds the results of a different run
"""

from __future__ import annotations


class EvaluationError(Exception):
    """Something is wrong that its text explains."""

    exit_code = 1


class WrongUsage(EvaluationError):
    """Flags that mean nothing together."""

    exit_code = 2


class WrongInput(EvaluationError):
    """A file that cannot be used; one line a problem."""

    exit_code = 65


class EndpointError(EvaluationError):
    """The server is gone, or fails at everything: no use to go on."""

    exit_code = 69


class KeyRefused(EndpointError):
    """401 or 403."""

    exit_code = 77


class ModelMissing(EndpointError):
    """The endpoint has no such model."""


class CannotScore(EndpointError):
    """The endpoint tells no likelihoods of prompts, or no token ids of conversations."""


class RequestRefused(EvaluationError):
    """A single request is wrong for this model, such as one that exceeds its context."""


class RunnerMissing(EvaluationError):
    """A program that is optional is not installed."""

    exit_code = 69


class OtherRun(EvaluationError):
    """Results of another run lie where these should."""

    exit_code = 65
