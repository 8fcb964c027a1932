"""All settings, in one file. Every value that differs between two sites comes from the environment (.env.example).

`DEMO_STATE=1` is what `dev.py up` runs: development mail, no second factor demanded, windows of zero.
"""

import json
import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

BASE_DIR = Path(__file__).resolve().parent.parent


def env(name: str, default: str | None = None) -> str:
    """A value of the environment; without a default its absence stops the start with a sentence."""
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"The environment variable {name} is not set. See .env.example.")
    return value


def env_bool(name: str, default: bool = False) -> bool:
    """Exactly 1 or 0: anything else is refused, so that a typing error never turns a guard off."""
    value = os.environ.get(name, "1" if default else "0")
    if value not in ("0", "1"):
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}.")
    return value == "1"


def env_list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


def database(url: str) -> dict:
    """Django's form of `postgres://user:password@host:port/name`."""
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # An open write transaction anywhere stalls the fold (design of the ledger), so none may idle.
        "OPTIONS": {"options": "-c idle_in_transaction_session_timeout=30000 -c lock_timeout=10000"},
    }


TESTING = env_bool("TESTING", "pytest" in sys.modules)
DEMO_STATE = env_bool("DEMO_STATE", TESTING)
# Tools that never serve a request (makemigrations, mypy, a build step) start without secrets.
_WITHOUT_SECRETS = TESTING or (len(sys.argv) > 1 and sys.argv[1] in {"makemigrations", "makemessages", "collectstatic"})
_OPTIONAL = "" if _WITHOUT_SECRETS or "mypy" in sys.argv[0] else None

DEBUG = env_bool("DJANGO_DEBUG", False)
SECRET_KEY = env("SECRET_KEY", "test-only-" + "x" * 50 if _OPTIONAL is not None else None)
SITE_NAME = env("SITE_NAME", "OpenLedger")
SITE_URL = env("SITE_URL", "http://127.0.0.1:8000").rstrip("/")
GATEWAY_URL = env("GATEWAY_URL", "http://127.0.0.1:8001").rstrip("/")
MEDIA_ORIGIN = env("MEDIA_ORIGIN", "").rstrip("/")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1],testserver" if DEMO_STATE else "")
CSRF_TRUSTED_ORIGINS = [SITE_URL]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "template_partials",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "accounts",
    "ledger",
    "datanets",
    "attribution",
    "marketplace",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "marketplace.bodylimit.BodyLimitMiddleware",  # behind what adds headers, before whatever may read the body
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "marketplace.middleware.OnwardLanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "marketplace.middleware.RequestIdMiddleware",
    "marketplace.middleware.BusinessErrorMiddleware",
    "marketplace.middleware.SecondFactorMiddleware",
    "marketplace.middleware.TermsMiddleware",
]

ROOT_URLCONF = "marketplace.urls"
WSGI_APPLICATION = "marketplace.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "marketplace.context_processors.site",
            ],
            "builtins": ["django.templatetags.i18n", "django.templatetags.static", "marketplace.templatetags.ui"],
        },
    }
]

# --- Database: the application's role may not write the books; the sequencer's may order, log and sign them; the owner's
# migrates (`manage.py setup`). One address is enough: then all three are that role.
DATABASE_URL = env("DATABASE_URL", "postgres://openledger@127.0.0.1:5432/openledger" if _OPTIONAL is not None else None)
DATABASE_OWNER_URL = env("DATABASE_OWNER_URL", "") or DATABASE_URL
DATABASE_SEQUENCER_URL = env("DATABASE_SEQUENCER_URL", "") or DATABASE_URL
APP_DB_ROLE = env("APP_DB_ROLE", "") or unquote(urlsplit(DATABASE_URL).username or "openledger_app")
SEQUENCER_DB_ROLE = env("SEQUENCER_DB_ROLE", "") or (
    APP_DB_ROLE
    if DATABASE_SEQUENCER_URL == DATABASE_URL
    else unquote(urlsplit(DATABASE_SEQUENCER_URL).username or APP_DB_ROLE)
)
_URL_OF_COMMAND = {
    **dict.fromkeys(("setup", "migrate", "sqlmigrate"), DATABASE_OWNER_URL),
    "sequencer": DATABASE_SEQUENCER_URL,
}
DATABASES = {"default": database(_URL_OF_COMMAND.get(sys.argv[1] if len(sys.argv) > 1 else "", DATABASE_URL))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis: queue and cache. It may lose everything; the books stay right.
REDIS_URL = env("REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"socket_connect_timeout": 2, "socket_timeout": 2},
    }
}
CELERY_BROKER_URL = REDIS_URL
CELERY_RESULT_BACKEND = REDIS_URL
CELERY_WORKER_HIJACK_ROOT_LOGGER = False  # its own lines would quote what database errors quote; LOGGING's do not
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 1800
CELERY_TASK_SOFT_TIME_LIMIT = 1740
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
CELERY_RESULT_EXPIRES = 3600
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
# Doorbells that may be lost: what is due stands in a column, and the next bell catches up.
CELERY_BEAT_SCHEDULE = {
    "recheck waiting files": {"task": "datanets.tasks.recheck_waiting_files", "schedule": 60},
    "expire uploads": {"task": "datanets.tasks.expire_uploads", "schedule": 3600},
    "plant records for curators": {"task": "datanets.tasks.ring_gold", "schedule": 60},
    "sweep storage": {"task": "datanets.tasks.sweep_storage", "schedule": 3600},
    "measure score cards": {"task": "attribution.tasks.ring_due_score_cards", "schedule": 20},
    "ring waiting training": {"task": "marketplace.tasks.ring_waiting_training", "schedule": 60},
    "fail overdue training": {"task": "marketplace.tasks.fail_overdue_training", "schedule": 600},
    "keep deadlines": {"task": "marketplace.tasks.keep_deadlines", "schedule": 20},
    "tell news": {"task": "marketplace.tasks.tell_news", "schedule": 20},
    "watch keys and wallets": {"task": "marketplace.tasks.watch", "schedule": 20},
    "tell what epochs paid": {"task": "marketplace.tasks.tell_settled", "schedule": 60},
    # A bell that rang while all workers were busy is not rung after.
    "deliver webhooks": {"task": "marketplace.tasks.deliver_webhooks", "schedule": 5, "options": {"expires": 5}},
    # What a key has kept until it is attributed goes soon after.
    "forget what calls said": {
        "task": "marketplace.tasks.forget_call_content",
        "schedule": 5,
        "options": {"expires": 5},
    },
    # It takes up to a minute of a core per model: a bell that waited is not rung after.
    "judge noise": {"task": "marketplace.tasks.judge_noise", "schedule": 60, "options": {"expires": 60}},
    "forget what is over": {"task": "marketplace.tasks.forget", "schedule": 600},
}

# --- People
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = (
    ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if TESTING
    else ["django.contrib.auth.hashers.ScryptPasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "username*", "password1*"]
ACCOUNT_SIGNUP_FORM_CLASS = "marketplace.forms_accounts.SignupForm"
ACCOUNT_ADAPTER = "marketplace.accounts_adapter.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_PRESERVE_USERNAME_CASING = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_RATE_LIMITS = False if TESTING else {"login_failed": "10/m/ip,5/5m/key"}
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
MFA_ADAPTER = "marketplace.accounts_adapter.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = SITE_URL.startswith("http://")
MFA_TOTP_ISSUER = SITE_NAME
MFA_TOTP_TOLERANCE = 1  # the code before and after count too: typing takes time, and clocks differ (RFC 6238, 5.2)
USERSESSIONS_TRACK_ACTIVITY = False
# Admins, curators and whoever withdraws must hold a second factor; a demo state does not insist.
REQUIRE_MFA = env_bool("REQUIRE_MFA", not DEMO_STATE)

# --- Mail: a demo state keeps it in a folder that /dev/mail/ shows.
STATE_DIR = Path(env("STATE_DIR", str(BASE_DIR / ".state")))
EMAIL_FILE_PATH = STATE_DIR / "mail"
if DEMO_STATE and not TESTING:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
elif not TESTING:
    _mail = urlsplit(env("EMAIL_URL", "smtp://localhost:25"))
    EMAIL_HOST, EMAIL_PORT = _mail.hostname or "localhost", _mail.port or 25
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
    EMAIL_USE_TLS = _mail.scheme == "smtp+tls"
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", f"{SITE_NAME} <noreply@localhost>")

# --- Language and time
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("fr", _("French"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_TZ = True
TIME_ZONE = "UTC"

# --- Files
STATIC_URL = "/static/"
STATIC_ROOT = Path(env("STATIC_ROOT", str(STATE_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if TESTING
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
STORAGE_DIR = Path(env("STORAGE_DIR", str(STATE_DIR / "storage")))
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FILES = 500  # as many as a submission holds
UPLOAD_FILE_MAX_BYTES = int(env("UPLOAD_FILE_MAX_BYTES", str(200 * 1024 * 1024)))
UPLOAD_USER_QUOTA_BYTES = int(env("UPLOAD_USER_QUOTA_BYTES", str(5 * 1024**3)))

# --- Web security
# For a machine whose kernel lacks a layer of the sandbox, once somebody has decided to live without it.
SILENCED_SYSTEM_CHECKS = env_list("SILENCED_SYSTEM_CHECKS")
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
_HTTPS = SITE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _HTTPS
SECURE_SSL_REDIRECT = env_bool("SECURE_SSL_REDIRECT", _HTTPS)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]  # health checks come over plain http from inside
SECURE_HSTS_SECONDS = 31536000 if _HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _HTTPS
if env_bool("BEHIND_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    ALLAUTH_TRUSTED_PROXY_COUNT = 1
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, *([MEDIA_ORIGIN] if MEDIA_ORIGIN else [])],
        "media-src": [SELF, *([MEDIA_ORIGIN] if MEDIA_ORIGIN else [])],
        "font-src": [SELF],
        "connect-src": [SELF, GATEWAY_URL],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

# --- Keys. All come from the environment; `dev.py up` makes them in its state folder.
FIELD_KEYS = env_list("FIELD_KEYS", "dGVzdC1vbmx5LXRlc3Qtb25seS10ZXN0LW9ubHktMTI=" if _OPTIONAL is not None else "")
CONTENT_KEY = env("CONTENT_KEY", "00" * 32 if _OPTIONAL is not None else None)
RECORD_KEY = env("RECORD_KEY", "11" * 32 if _OPTIONAL is not None else None)
LOG_KEY_FILE = env("LOG_KEY_FILE", str(STATE_DIR / "log.key"))
# The public keys, for every process. Empty: beside the private one, where others may not be able to look.
LOG_VKEY_FILE = env("LOG_VKEY_FILE", "")
# The public log as files: the sequencer writes them, any web server may serve them (deploy/nginx.conf).
LOG_DIR = Path(env("LOG_DIR", str(STORAGE_DIR / "log")))
LOG_ORIGIN = env("LOG_ORIGIN", "openledger.localhost/log")
# [{"url": "http://127.0.0.1:7001", "vkey": "name+hash+key"}, ...]
WITNESSES = json.loads(env("WITNESSES", "[]"))
WITNESS_QUORUM = int(env("WITNESS_QUORUM", "2"))

# --- Neighbours on the loopback
MODELS_URL = env("MODELS_URL", "http://127.0.0.1:8002").rstrip("/")
MODELS_API_KEY = env("MODELS_API_KEY", "")
# Hosts (host:port) that outbound.py may reach by plain http or on a private address; empty in production.
OUTBOUND_ALLOW = env_list("OUTBOUND_ALLOW")
# The same for webhooks, whose addresses anybody may give: none of the neighbours above belongs here.
WEBHOOK_ALLOW = env_list("WEBHOOK_ALLOW")

# --- Rules with a number
EPOCH_S = int(env("EPOCH_S", "120" if DEMO_STATE else "86400"))
PLAN_SHARD_CALLS = int(
    env("PLAN_SHARD_CALLS", "2000")
)  # an epoch with more calls is shared out to workers, so many each
# Below these a model's scores predict too little, and its money is split equally over the records that lead.
SCORE_CARD_LDS_MIN = float(env("SCORE_CARD_LDS_MIN", "0.5"))
SCORE_CARD_AUC_MIN = float(env("SCORE_CARD_AUC_MIN", "0.8"))
# How long after a training its card is begun: in a demo state not before all of the demo is there.
SCORE_CARD_WAIT_S = int(env("SCORE_CARD_WAIT_S", "900" if DEMO_STATE else "0"))
TRACE_WAIT_S = 86400  # a charge without a trace for so long is settled as not attributable
CHALLENGE_WINDOW_S = int(env("CHALLENGE_WINDOW_S", "0" if DEMO_STATE else str(7 * 86400)))
UNATTRIBUTED_KEPT_S = int(env("UNATTRIBUTED_KEPT_S", str(90 * 86400)))
DISPUTE_ANSWER_S = int(env("DISPUTE_ANSWER_S", str(5 * 86400)))
THEFT_DECISION_S = int(env("THEFT_DECISION_S", str(14 * 86400)))  # a theft dispute that nobody decided by then lapses
THEFT_DISPUTES_RUNNING_MAX = 5  # by one person
RULE_LOCK_DAYS = int(env("RULE_LOCK_DAYS", "0" if DEMO_STATE else "7"))  # a proposed split rule waits so long
NOISE_DECISION_S = int(
    env("NOISE_DECISION_S", str(14 * 86400))
)  # a noise case, or its appeal, that waits longer lapses
NOISE_APPEAL_S = int(env("NOISE_APPEAL_S", str(14 * 86400)))  # and so long its contributor may appeal
# Below these nobody is judged: the rule was measured there and above. They are no knobs of a site.
NOISE_INCUMBENTS_MIN, NOISE_VALIDATION_MIN = 1000, 250
PAYOUT_CHANGE_WAIT_S = int(env("PAYOUT_CHANGE_WAIT_S", "0" if DEMO_STATE else "86400"))
REVIEW_UNDO_S = int(env("REVIEW_UNDO_S", "10" if DEMO_STATE else "600"))
REVIEW_LEASE_S = 1800
REPORTS_PER_DAY_MAX = 20  # of records, by one person
QUOTE_VALID_S = 300
IDEMPOTENCY_KEPT_S = 86400
DEPOSIT_SINGLE_MAX_NANO = int(env("DEPOSIT_SINGLE_MAX_NANO", str(10_000 * 10**9)))
CONTENT_KEPT_S = 30 * 86400
TERMS_VERSION = "2026-11"
CONTRIBUTOR_AGREEMENT_VERSION = "2026-11"
PLATFORM_HANDLE = "openledger"
VERIFY_MODULES = ["ledger.verify", "datanets.verify", "attribution.verify", "marketplace.verify"]

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "marketplace.tokens.ApiTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "EXCEPTION_HANDLER": "marketplace.errors.api_exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "DEFAULT_THROTTLE_RATES": {},
}
SPECTACULAR_SETTINGS = {
    "TITLE": "OpenLedger API",
    "VERSION": "1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "ENUM_NAME_OVERRIDES": {"ReviewReasonEnum": "datanets.models.Review.Reason"},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "marketplace.logs.Line",
            "format": "{asctime} {levelname} {name} {message}",
            "style": "{",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {app: {"level": "INFO"} for app in ("ledger", "datanets", "attribution", "marketplace")},
}
