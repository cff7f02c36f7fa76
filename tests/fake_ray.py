"""Ray's part in calls to workers, in this process: a call is done when somebody waits for it."""

from ray.exceptions import RayActorError, RayTaskError


class Late(Exception):
    """Raised by a fake that does not answer in time."""


class Dead(Exception):
    """Raised by a fake whose process has died."""


class FakeReference:
    """What Ray hands out for a call: here the work itself, done once."""

    def __init__(self, work):
        self.work, self.is_done = work, False

    def is_ready(self):
        if self.is_done:
            return True
        try:
            self.value, self.error = self.work(), None
        except Late:
            return False
        except Dead:
            self.error = RayActorError()
        except Exception as error:  # noqa: BLE001  handed on by `get`, as Ray does
            self.error = RayTaskError("method", "a traceback", error)
        self.is_done = True
        return True


class FakeMethod:
    def __init__(self, function):
        self.function = function

    def remote(self, *arguments, **options):
        return FakeReference(lambda: self.function(*arguments, **options))


class FakeHandle:
    """An actor's handle around a plain object."""

    def __init__(self, worker):
        self.worker = worker

    def __getattr__(self, name):
        return FakeMethod(lambda *arguments: getattr(self.worker, name)(*arguments))


def wait(references, num_returns, timeout):
    assert timeout is not None, "a call without a deadline"
    assert num_returns == 1
    ready = next(([reference] for reference in references if reference.is_ready()), [])
    return ready, [reference for reference in references if reference not in ready]


def get(reference):
    if reference.error is not None:
        raise reference.error
    return reference.value
