from app.lib.errors import ConflictError


class JobNotDeadError(ConflictError):
    """It waits, runs, or has succeeded: running it again would do its work twice."""

    detail = "Only a job that has failed for good can be retried."
