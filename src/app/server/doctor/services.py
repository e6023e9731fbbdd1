"""What `doctor` asks replicas, Redis, the mail server and the storage of files."""

import contextlib
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import redis
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from app.domain.files.jobs import identity_of
from app.lib.db.database import Database, create_pool
from app.lib.mail.smtp import SmtpBackend
from app.lib.settings import Settings
from app.lib.storage import ForeignStorageError, Storage, StorageUnavailableError
from app.server.doctor.database import clock_finding, unreachable
from app.server.doctor.findings import Finding, fault, fine, one_line, warning

REPLICATION_LAG = 10.0
OLDEST_REDIS = 6
PROBE = "keel:doctor"
SECONDS = 3.0
LAG = text("""
    SELECT pg_is_in_recovery() AS is_replica,
        CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float END AS lag
""")


def replica_findings(settings: Settings) -> Iterator[Finding]:
    for number, url in enumerate(settings.replica_urls, start=1):
        yield _replica(f"replica {number}", url)


def _replica(check: str, url: URL) -> Finding:
    engine = create_pool(url, size=1, name="keel-doctor", isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            found = connection.execute(LAG).one()
    except DBAPIError as error:
        return unreachable(check, error)
    finally:
        engine.dispose()
    if not found.is_replica:
        mend = "Correct DATABASE_REPLICA_URLS, unless it follows by logical replication."
        return warning(check, f"{url.host or 'It'} is no replica: it takes changes of its own.", mend)
    if (found.lag or 0) > REPLICATION_LAG:
        mend = "See in pg_stat_replication of the primary why; until then, take it out of DATABASE_REPLICA_URLS."
        return warning(check, f"It is {found.lag:.0f} s behind the primary.", mend)
    return fine(check, "It follows the primary.")


def redis_findings(settings: Settings) -> Iterator[Finding]:
    if settings.redis_dsn is None:
        yield fine("redis", "None is configured: each process has a cache and rate limits of its own.")
        return
    try:
        with redis.Redis.from_url(settings.redis_dsn, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
            yield from _redis(client)
    except redis.RedisError as error:
        yield fault("redis", f"It does not do what is asked: {one_line(error)}.", _redis_mend(error))


def _redis_mend(error: redis.RedisError) -> str:
    match error:
        case redis.AuthenticationError() | redis.exceptions.NoPermissionError():
            return "Correct the user or the password in REDIS_URL (or REDIS_PASSWORD), or what that user may do."
        case redis.ReadOnlyError():
            return "Name the primary in REDIS_URL: this one only reads."
        case redis.exceptions.OutOfMemoryError():
            return "Give it maxmemory-policy allkeys-lru, or more memory."
        case redis.ResponseError() if "password" in str(error).lower() or "auth" in str(error).lower():
            return "Correct the user or the password in REDIS_URL (or REDIS_PASSWORD)."
    return "Start it, or correct REDIS_URL. Until then each process counts rate limits for itself."


def _redis(client: Any) -> Iterator[Finding]:
    client.set(PROBE, b"", px=60_000)
    now = time.time()
    seconds, microseconds = client.time()
    ours = (now + time.time()) / 2
    server, memory = client.info("server"), client.info("memory")
    version = str(server.get("redis_version", "0"))
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        yield fault("redis", f"It is Redis {version}.", f"Upgrade it: Keel needs Redis {OLDEST_REDIS} or newer.")
    else:
        yield fine("redis", f"Redis {version} answers, and lets itself be written to.")
    if memory.get("maxmemory") and memory.get("maxmemory_policy") == "noeviction":
        mend = "Set maxmemory-policy allkeys-lru (docs/cache.md)."
        yield warning("redis", "It refuses to write when it is full: its maxmemory-policy is noeviction.", mend)
    yield clock_finding(seconds + microseconds / 1e6, ours, whose="Redis")


def mail_findings(settings: Settings) -> Iterator[Finding]:
    if settings.mail_backend != "smtp":
        yield fine("mail", f"None is sent: MAIL_BACKEND is {settings.mail_backend}.")
        return
    where = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        SmtpBackend(settings).check()
    except (OSError, smtplib.SMTPException) as error:
        yield fault("mail", f"{where} takes no mail: {_said(error)}.", _mail_mend(error))
    else:
        signed_in = f", and lets {settings.smtp_user} in" if settings.smtp_user else ""
        yield fine("mail", f"{where} answers{signed_in}.")


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {one_line(text)}"
    return one_line(error) or type(error).__name__


def _mail_mend(error: Exception) -> str:
    match error:
        case smtplib.SMTPAuthenticationError():
            return "Correct SMTP_USER and SMTP_PASSWORD."
        case smtplib.SMTPNotSupportedError():
            return "It offers no STARTTLS, or no sign-in: set SMTP_SECURITY=tls and SMTP_PORT=465, or ask who runs it."
        case ssl.SSLCertVerificationError():
            return "Set SMTP_HOST to the name in its certificate, or SSL_CERT_FILE to the authority that signed it."
        case ssl.SSLError():
            return "Use SMTP_SECURITY=starttls with port 587, or tls with port 465."
        case socket.gaierror():
            return "Correct SMTP_HOST: there is no such name."
        case TimeoutError():
            return "See that SMTP_HOST and SMTP_PORT are right, and that no firewall swallows what is sent."
    return "See that SMTP_HOST and SMTP_PORT are right, and that it runs."


def storage_findings(settings: Settings, database: Database | None) -> Iterator[Finding]:
    """A blob is written, read and deleted again, under a name that nothing else can have; but not into a storage of
    another database."""
    storage = Storage.of(settings)
    where = settings.storage_url or str(settings.local_dir / "files")
    mend = "Give the account that runs Keel the right to write there, or correct STORAGE_URL (and AWS_* for a bucket)."
    try:
        if database:
            _ask_owner(storage, database)
        is_same = _gives_back_what_it_is_given(storage)
    except ForeignStorageError:
        mend = "Correct STORAGE_URL or DATABASE_URL; docs/files.md says how a storage is handed over."
        yield fault("storage", "Its files belong to another database: no upload is taken.", mend)
    except StorageUnavailableError as error:
        yield fault("storage", f"{where} cannot be written to: {one_line(error.__cause__)}.", mend)
    else:
        said = f"{where} gives back something else than what was written."
        yield fine("storage", f"{where} takes files, and gives them back.") if is_same else fault("storage", said, mend)


def _ask_owner(storage: Storage, database: Database) -> None:
    """Raises ForeignStorageError. Without a database nobody knows: its own line tells of that."""
    with contextlib.suppress(DBAPIError):
        storage.belongs_to(database.write(identity_of))


def _gives_back_what_it_is_given(storage: Storage) -> bool:
    blob_id = uuid4()
    storage.put(blob_id, b"keel", media_type="text/plain", disposition="inline")
    try:
        return storage.read(blob_id) == b"keel"
    finally:
        storage.delete(blob_id)
