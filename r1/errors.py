"""The errors that r1 raises on purpose, by who has to act on them."""


class UserError(ValueError):
    """Something that the user asked for cannot be done: option, rule, value and remedy in one line.

    The command line prints it without a traceback and exits with code 2.
    """


class RunError(RuntimeError):
    """A run that had started cannot go on: the message names the phase, the worker and the policy version."""


class WorkerLost(RunError):
    """A process that the run needs has died, or does not answer any more."""


class SyncError(RunError):
    """A weight sync did not leave the rollout worker with the learner's exact weights."""


class PublisherLost(SyncError):
    """The published weights are not there: the learner that held them has ended, or is out of reach."""


class ScoringError(RunError):
    """Too many reward functions failed or ran out of time for the rewards to be believed."""
