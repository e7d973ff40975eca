"""Texts in which a reader would call something a secret, by family.

Each family has two parts: the rules are tuned on `tuned`, and `held_out` has other members of the
family, which are only measured. All secrets are made up at run time, so that no file of the
project looks as if it held one.
"""

from __future__ import annotations

import base64
import json
import random
import string
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tests import attack_shapes

__all__ = ["FAMILIES", "Family", "Shape", "is_held", "shapes"]

Part = Literal["tuned", "held_out"]

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
ALNUM = string.ascii_letters + DIGITS
HEX = DIGITS + "abcdef"


@dataclass(frozen=True)
class Shape:
    """A text with a secret in it."""

    family: str
    part: Part
    text: str
    secret: str


@dataclass(frozen=True)
class Family:
    """Templates with one kind of place for a secret, and what makes up the secret."""

    tuned: tuple[str, ...]
    held_out: tuple[str, ...]
    secret: Callable[[Maker], str]


class Maker:
    """Makes up secrets, the same ones for the same seed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def some(self, alphabet: str, size: int) -> str:
        """Return a random word that has a letter and a digit if the alphabet has them."""
        word = [self._random.choice(alphabet) for _ in range(size)]
        for kind in (LOWER, UPPER, DIGITS):
            allowed = [sign for sign in alphabet if sign in kind]
            if allowed and size > 5:
                word[self._random.randrange(size)] = self._random.choice(allowed)
        return "".join(word)

    def password(self) -> str:
        """Return a password as people choose them: a word, digits, a sign."""
        words = ("hunter", "quartz", "falcon", "tr0ub4dor", "summer", "marble", "pelican")
        sign = self._random.choice(("", "!", "-", "_", "."))
        return (
            f"{self._random.choice(words).title()}{sign}{self.some(DIGITS, 3)}{self.some(LOWER, 2)}"
        )

    def digits(self, size: int) -> str:
        return self.some("123456789", size)

    def uuid(self) -> str:
        return "-".join(self.some(HEX, size) for size in (8, 4, 4, 4, 12))

    def jwt(self) -> str:
        def part(value: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        head = {"alg": "HS256", "typ": "JWT"}
        return f"{part(head)}.{part({'sub': self.some(ALNUM, 12)})}.{self.some(ALNUM + '_-', 43)}"

    def pem(self, lines: int = 3) -> list[str]:
        return [self.some(ALNUM + "+/", 64) for _ in range(lines)]

    def card(self, start: str, size: int) -> str:
        digits = start + self.some(DIGITS, size - len(start) - 1)
        return next(digits + last for last in DIGITS if luhn(digits + last))

    def iban(self, country: str, size: int) -> str:
        account = self.some(DIGITS, size - 4)
        number = int("".join(str(int(sign, 36)) for sign in f"{account}{country}00"))
        return f"{country}{98 - number % 97:02}{account}"


def luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _key(m: Maker) -> str:
    return m.some(ALNUM, 32)


def _password(m: Maker) -> str:
    return m.password()


_PASSWORDS_IN_PROSE = Family(
    tuned=(
        "my password is {s}",
        "My password is: {s}, can you check it?",
        "The password for the router is {s}.",
        "Please log in with password {s} and tell me what you see.",
        "the root password was changed to {s} yesterday",
        "Her new password is '{s}'.",
        "You can use the passcode {s} at the door.",
        "user: bob, pass: {s}",
        "username bob / password {s}",
        "Password = {s}",
        "pw: {s}",
        "Mein Passwort ist {s}",
        "password - {s}",
        "Password → {s}",
        "login: bob\npassword: {s}\nhost: db1",
        "Use `{s}` as the password.",
        "I set the password to {s}.",
        "The wifi password's {s}",
    ),
    held_out=(
        "our database password is {s}, please keep it",
        "the admin password: {s}",
        "password for bob is {s}",
        "his password is now {s}!",
        "The passphrase is {s}.",
        "sign in as bob with the password {s}.",
        "I changed my password to {s} today",
        "(password: {s})",
        "Passwd={s}",
        "credentials: bob / {s}",
        "mot de passe : {s}",
        "contraseña: {s}",
        "Password is {s}\nUser is bob",
        'the password is "{s}"',
        "password to the server: {s}",
        "the password is `{s}`",
        "pwd is {s}",
    ),
    secret=_password,
)
_ATTACK = Family(tuned=attack_shapes.TUNED, held_out=attack_shapes.HELD_OUT, secret=_password)
_MARKDOWN = Family(
    tuned=(
        "**Password:** {s}",
        "**Password**: {s}",
        "Password: `{s}`",
        "- **Password**: `{s}`",
        "| User | Password |\n|------|----------|\n| bob | {s} |",
        "| Password | {s} |",
        "| api_key | `{s}` |",
        "* Password: *{s}*",
        "__Password:__ {s}",
        "> password: {s}",
        "1. Password: {s}",
        "`password`: `{s}`",
        "Password:\n```\n{s}\n```",
        "Password:\n{s}",
        "**API key**: `{s}`",
        "### Password\n\n{s}",
        "- Password → `{s}`",
    ),
    held_out=(
        "*Password*: {s}",
        "**Passphrase:** `{s}`",
        "- password: **{s}**",
        "|Token|{s}|",
        "| **Password** | `{s}` |",
        "Password:\n\n    {s}",
        "## API Key\n```\n{s}\n```",
        "* __Secret key__: {s}",
        "- [x] Password: {s}",
        "> **Client secret:** {s}",
        "| Secret | {s} | rotated |",
        "Password :\n{s}\n",
        "**Password** — `{s}`",
        "`API_KEY` = `{s}`",
        "**The password is** {s}",
    ),
    secret=_password,
)
_CONFIG = Family(
    tuned=(
        "DB_PASSWORD={s}",
        "export OPENAI_API_KEY={s}",
        "password: {s}",
        "password : '{s}'",
        "db:\n  user: bob\n  password: {s}\n  port: 5432",
        'password = "{s}"',
        "spring.datasource.password={s}",
        '{{"password": "{s}"}}',
        "{{'password': '{s}'}}",
        '{{"db": {{"user": "bob", "pass": "{s}"}}}}',
        "<password>{s}</password>",
        '<add key="Password" value="{s}"/>',
        '<user name="bob" password="{s}"/>',
        "Server=db;User Id=sa;Password={s};",
        "AccountName=x;AccountKey={s};EndpointSuffix=core.windows.net",
        "- name: DB_PASSWORD\n  value: {s}",
        '{{"name": "DB_PASSWORD", "value": "{s}"}}',
        "machine example.com login bob password {s}",
        "requirepass {s}",
        "//registry.npmjs.org/:_authToken={s}",
        "[mysql]\nuser=bob\npassword={s}",
        "ENV API_TOKEN {s}",
        "ARG SECRET_KEY={s}",
        "PGPASSWORD={s} psql -h db",
        "password => {s}",
        "password := {s}",
        "secret_key_base: {s}",
        "signing_key = {s}",
        "password: |\n  {s}",
    ),
    held_out=(
        "MYSQL_ROOT_PASSWORD: {s}",
        "set SMTP_PASS={s}",
        "$env:GITHUB_TOKEN = '{s}'",
        "jwt_secret: '{s}'",
        "<ClientSecret>{s}</ClientSecret>",
        '<property name="password" value="{s}"/>',
        '<string name="api_key">{s}</string>',
        "<key>Password</key>\n<string>{s}</string>",
        "Data Source=db;Uid=sa;Pwd={s}",
        "Endpoint=sb://x.net/;SharedAccessKeyName=Root;SharedAccessKey={s}",
        '- key: API_SECRET\n  value: "{s}"',
        '{{"key": "client_secret", "value": "{s}"}}',
        "machine example.com\n  login bob\n  password {s}",
        "DJANGO_SECRET_KEY='{s}'",
        "mail.smtp.password = {s}",
        "masterauth {s}",
        "webhook_secret={s}",
        "encryption-key: {s}",
        "app.jwt.secret={s}",
        "ENV DB_PASSWORD={s}",
        'auth_token: "{s}"',
        "password: >-\n  {s}",
        '{{"credentials": {{"username": "bob", "secret": "{s}"}}}}',
        "REDISCLI_AUTH={s}",
        "aws_secret_access_key = {s}",
        "Password\t{s}",
    ),
    secret=_password,
)
_COMMANDS = Family(
    tuned=(
        "mysql --user=bob --password={s} db",
        "tool login --password {s}",
        "curl -u bob:{s} https://example.com",
        "curl --user 'bob:{s}' https://example.com",
        "curl -H 'X-Api-Key: {s}' https://example.com",
        'curl -H "Authorization: token {s}" https://example.com',
        "wget --http-user=bob --http-password={s} https://example.com",
        "docker login -u bob -p {s} registry.example.com",
        "mysql -u root -p{s} db",
        "sshpass -p {s} ssh bob@host",
        "redis-cli -a {s} ping",
        "tool --api-key {s} run",
        "tool --token={s}",
        "ALTER USER bob WITH PASSWORD '{s}';",
        "CREATE USER 'bob'@'%' IDENTIFIED BY '{s}';",
        "openssl rsa -in k.pem -passin pass:{s}",
        "echo {s} | docker login --password-stdin",
    ),
    held_out=(
        'psql "host=db user=bob password={s}"',
        'curl -u "bob:{s}" https://example.com',
        "curl -sS --user bob:{s} -X POST https://example.com",
        'curl --header "X-Auth-Token: {s}" https://example.com',
        "http -a bob:{s} example.com",
        "helm install x --set auth.password={s}",
        "az login -u bob -p {s}",
        "sshpass -p'{s}' ssh bob@host",
        "sqlcmd -S db -U sa -P {s}",
        "tool --client-secret {s}",
        "gh auth login --with-token {s}",
        "SET PASSWORD FOR 'bob'@'%' = '{s}';",
        "CREATE ROLE bob LOGIN PASSWORD '{s}';",
        "openssl enc -aes-256-cbc -k x -pass pass:{s}",
        "mysqldump -uroot -p{s} db > x.sql",
        "mongo -u bob -p {s} --authenticationDatabase admin",
    ),
    secret=_password,
)
_CODE = Family(
    tuned=(
        "headers['Authorization'] = '{s}'",
        'headers["X-Api-Key"] = "{s}"',
        "headers = {{'Authorization': 'Bearer {s}'}}",
        "os.environ['OPENAI_API_KEY'] = '{s}'",
        'const apiKey = "{s}";',
        'String dbPassword = "{s}";',
        "password: str = '{s}'",
        "client = Client(api_key='{s}')",
        "requests.get(url, auth=('bob', '{s}'))",
        'client.setPassword("{s}")',
        "define('DB_PASSWORD', '{s}');",
        "$config['db']['password'] = '{s}';",
        'request.setHeader("X-Auth-Token", "{s}")',
        "let token = `{s}`;",
        "config[:password] = '{s}'",
        ":password => '{s}'",
        'var secretKey = @"{s}";',
        "if password == '{s}':",
        'private static final String API_KEY = "{s}";',
        'api_key := "{s}"',
        "password = b'{s}'",
        'setenv("API_TOKEN", "{s}", 1);',
        "password <- '{s}'",
    ),
    held_out=(
        "session.headers.update({{'X-Api-Key': '{s}'}})",
        "headers.set('Authorization', '{s}')",
        'req.Header.Set("Authorization", "Bearer {s}")',
        'process.env.STRIPE_SECRET = "{s}";',
        "const config: Config = {{ clientSecret: '{s}' }};",
        'private val password: String = "{s}"',
        'let password: String? = "{s}"',
        "HTTPBasicAuth('bob', '{s}')",
        'builder.password("{s}")',
        '.withToken("{s}")',
        "putenv('SECRET_KEY={s}');",
        'const char *password = "{s}";',
        "self.password = '{s}'",
        "conn = connect(host='db', user='bob', passwd='{s}')",
        'os.Setenv("DB_PASSWORD", "{s}")',
        "@password = '{s}'",
        "my $password = '{s}';",
        "kwargs['client_secret'] = \"{s}\"",
        'if (pwd === "{s}") {{',
        "local api_key = '{s}'",
        "encryptionKey: Buffer.from('{s}')",
        "password=SecretStr('{s}')",
        '{{ password: "{s}", user }}',
    ),
    secret=lambda m: m.password() + m.some(ALNUM, 8),
)
_HEADERS = Family(
    tuned=(
        "Authorization: Bearer {s}",
        "authorization: Basic {s}",
        "Authorization: {s}",
        "Authorization: ApiKey {s}",
        "Proxy-Authorization: Basic {s}",
        "X-Api-Key: {s}",
        "Cookie: session={s}",
        "Set-Cookie: sid={s}; HttpOnly; Path=/",
        "cookie: a=1; sid={s}; b=2",
        "X-Auth-Token: {s}",
        "x-goog-api-key: {s}",
        "X-Amz-Security-Token: {s}",
        "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101, Signature={s}",
        "cookies={{'session': '{s}'}}",
        "Bearer {s}",
        "X-CSRF-Token: {s}",
    ),
    held_out=(
        "authorization=Bearer {s}",
        "> Authorization: Bearer {s}",
        '"authorization": ["Bearer {s}"]',
        "Authorization: Token token={s}",
        "Authorization: Splunk {s}",
        "PRIVATE-TOKEN: {s}",
        "anthropic-api-key: {s}",
        "Ocp-Apim-Subscription-Key: {s}",
        "Set-Cookie: theme=dark, session={s}",
        "document.cookie = 'sid={s}'",
        '{{"cookies": [{{"name": "sid", "value": "{s}"}}]}}',
        "X-Vault-Token: {s}",
        "x-access-token: {s}",
        "api-key: {s}",
        "X-Functions-Key: {s}",
    ),
    secret=_key,
)
_URLS = Family(
    tuned=(
        "https://bob:{s}@example.com/x",
        "postgres://bob:{s}@db:5432/x",
        "redis://:{s}@cache:6379/0",
        "https://example.com/?token={s}",
        "https://example.com/?a=1&api_key={s}&b=2",
        "https://example.com/cb#access_token={s}&state=1",
        "https://x.blob.core.windows.net/c/f?sv=2022-11-02&se=2030-01-01&sp=r&sig={s}",
        "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={s}",
        "https://storage.googleapis.com/b/o?X-Goog-Expires=900&X-Goog-Signature={s}",
        "https://d1.cloudfront.net/x?Expires=1&Signature={s}&Key-Pair-Id=K1",
        "https://hooks.slack.com/services/T01234567/B01234567/{s}",
        "https://discord.com/api/webhooks/123456789012345678/{s}",
        "https://{s}@github.com/o/r.git",
        "https://bob%3A{s}%40example.com",
        "https:\\/\\/bob:{s}@example.com",
        "https://example.com/?key={s}",
        "https://example.com/login?user=bob&password={s}",
        "https://example.com/cb?code={s}&state=1",
    ),
    held_out=(
        "mongodb+srv://bob:{s}@cluster.example.net/x",
        "amqp://bob:{s}@mq//",
        "ftp://bob:{s}@files.example.com",
        "https://oauth2:{s}@gitlab.com/o/r.git",
        "https://example.com/?apikey={s}",
        "https://example.com/a;jsessionid={s}?x=1",
        "https://example.com/?access-token={s}",
        "https://example.com/cb?id_token={s}",
        "https://b.s3.amazonaws.com/k?AWSAccessKeyId=x&Expires=1&Signature={s}",
        "https://b.s3.amazonaws.com/k?X-Amz-Security-Token={s}&X-Amz-Date=1",
        "https://discordapp.com/api/webhooks/123456789012345678/{s}",
        "https://acme.webhook.office.com/webhookb2/{s}/IncomingWebhook/x",
        "https://example.com/?sas={s}",
        "jdbc:mysql://db/x?user=bob&password={s}",
        "https://example.com/?auth={s}",
        "git clone https://bob:{s}@example.com/r.git",
        "https://example.com/?redirect=x&refresh_token={s}",
        "https://example.com/?a=1&amp;token={s}",
        "https://u.example.com/?next=%2Fx%3Ftoken%3D{s}",
        "https://example.com/reset?reset_token={s}",
    ),
    secret=_key,
)

_TOKENS: dict[Part, tuple[tuple[str, str, int], ...]] = {
    "tuned": (
        ("sk-proj-{}", ALNUM + "_-", 120),
        ("sk-{}", ALNUM, 48),
        ("sk-{}", LOWER, 48),
        ("0123456789abcdef0123456789abcdef.{}", ALNUM + "_-", 24),
        ("snyk_uat.0123abcd.{}", ALNUM + "_-", 60),
        ("2/1234567890123456/1234567890123456:{}", HEX, 32),
        ("ak-{}", ALNUM, 22),
        ("secret_{}", ALNUM, 20),
        ("tr_prod_{}", ALNUM, 20),
        ("sk-ant-api03-{}", ALNUM + "_-", 95),
        ("sk-or-v1-{}", HEX, 64),
        ("ghp_{}", ALNUM, 36),
        ("github_pat_{}", ALNUM + "_", 82),
        ("glpat-{}", ALNUM + "_-", 20),
        ("gldt-{}", ALNUM + "_-", 20),
        ("AKIA{}", UPPER + "234567", 16),
        ("AIza{}", ALNUM + "_-", 35),
        ("ya29.{}", ALNUM + "_-", 80),
        ("GOCSPX-{}", ALNUM + "_-", 28),
        ("xoxb-{}", DIGITS + "-", 24),
        ("xapp-1-{}", ALNUM + "-", 60),
        ("hf_{}", ALNUM, 34),
        ("gsk_{}", ALNUM, 52),
        ("npm_{}", ALNUM, 36),
        ("pypi-AgEI{}", ALNUM + "_-", 90),
        ("SG.{}", ALNUM + "_-", 22),
        ("sk_live_{}", ALNUM, 24),
        ("whsec_{}", ALNUM, 32),
        ("shpat_{}", HEX, 32),
        ("dop_v1_{}", HEX, 64),
        ("hvs.{}", ALNUM + "_-", 90),
        ("xai-{}", ALNUM, 80),
        ("r8_{}", ALNUM, 37),
        ("nvapi-{}", ALNUM + "_-", 64),
        ("pplx-{}", ALNUM, 48),
        ("lin_api_{}", ALNUM, 40),
        ("ntn_{}", ALNUM, 46),
        ("sntrys_{}", ALNUM + "_-", 60),
        ("sbp_{}", HEX, 40),
        ("dckr_pat_{}", ALNUM + "_-", 27),
        ("tskey-auth-{}", ALNUM, 28),
        ("PMAK-{}", HEX, 59),
        ("dapi{}", HEX, 32),
        ("EAAC{}", ALNUM, 120),
        ("re_{}", ALNUM, 32),
        ("pcsk_{}", ALNUM + "_", 70),
        ("key-{}", HEX, 32),
        ("ATATT3xFfGF0{}", ALNUM + "_-", 180),
        ("AGE-SECRET-KEY-1{}", UPPER + "234567", 58),
    ),
    "held_out": (
        ("sk-svcacct-{}", ALNUM + "_-", 120),
        ("sk-ant-admin01-{}", ALNUM + "_-", 95),
        ("ghs_{}", ALNUM, 36),
        ("ghu_{}", ALNUM, 36),
        ("glrt-{}", ALNUM + "_-", 20),
        ("glptt-{}", HEX, 40),
        ("ASIA{}", UPPER + "234567", 16),
        ("ABSK{}", ALNUM + "+/", 110),
        ("xoxe.xoxp-1-{}", ALNUM, 140),
        ("rk_live_{}", ALNUM, 24),
        ("shpss_{}", HEX, 32),
        ("hvb.{}", ALNUM + "_-", 140),
        ("fw_{}", ALNUM, 24),
        ("tgp_v1_{}", ALNUM + "_-", 43),
        ("jina_{}", ALNUM, 60),
        ("tvly-{}", ALNUM, 32),
        ("lsv2_pt_{}", HEX, 32),
        ("figd_{}", ALNUM + "_-", 40),
        ("sq0csp-{}", ALNUM + "_-", 43),
        ("glsa_{}", ALNUM, 32),
        ("glc_eyJ{}", ALNUM, 60),
        ("pul-{}", HEX, 40),
        ("pscale_tkn_{}", ALNUM + "_-", 43),
        ("rubygems_{}", HEX, 48),
        ("NRAK-{}", UPPER + DIGITS, 27),
        ("xkeysib-{}", HEX, 64),
        ("phx_{}", ALNUM, 43),
        ("vcp_{}", ALNUM, 56),
        ("nfp_{}", ALNUM, 36),
        ("sgp_{}", HEX, 40),
        ("CCIPAT_{}", ALNUM + "_", 40),
        ("bkua_{}", HEX, 40),
        ("apify_api_{}", ALNUM, 36),
        ("dp.pt.{}", ALNUM, 43),
        ("LTAI{}", ALNUM, 20),
        ("cfut_{}", ALNUM, 48),
        ("ops_eyJ{}", ALNUM, 250),
        ("CFPAT-{}", ALNUM + "_-", 43),
        ("dt0c01.{}", UPPER + DIGITS, 24),
        ("sqp_{}", HEX, 40),
        ("tfp_{}", ALNUM + "_-", 44),
        ("fm2_{}", ALNUM + "+/", 100),
    ),
}
_AROUND = ("{}", "Here it is: {}", "use {} please", "('{}')", "`{}`")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_JSON_KEYS: dict[Part, tuple[str, ...]] = {
    "tuned": _words(
        "password db_password user_password oldPassword passwordConfirm password1 smtp_pass pass "
        "token github_token bot_token OPENAI_API_KEY x-api-key client_secret jwt_secret SECRET_KEY "
        "signing_key account_key AccountKey private_key AWS_SESSION_TOKEN SharedAccessKey "
        "connection_string auth authorization x-auth-token credentials session_id cookies "
        "passphrase pin pwd accessToken secretToken pat db.password dsn"
    ),
    "held_out": _words(
        "new_password root_password passwd db_pass hf_token csrf_token ollama_api_key apikey "
        "app_secret webhook_secret encryption_key master_key ssh_private_key sas_token "
        "Authorization credential sessionid set-cookie otp cvv ssn bearer bearer_token id_token "
        "refreshToken api-secret authToken personal_access_token httpAuthorization "
        "spring.datasource.password wifiPassword userPasswd storageKey deployKey mfaCode "
        "recovery_code seedPhrase licenseKey x-amz-security-token PGPASSWORD passcode "
        "security_answer DB_PWD sshKey clientsecret"
    ),
}

_CARDS: dict[Part, tuple[tuple[str, int, str], ...]] = {
    "tuned": (
        ("4", 16, ""),
        ("4", 16, " "),
        ("4", 16, "-"),
        ("53", 16, "\u00a0"),
        ("2221", 16, "\u2009"),
        ("37", 15, " "),
        ("6011", 16, "\u2013"),
        ("36", 14, ""),
        ("4", 16, "fullwidth"),
        ("4", 16, "."),
        ("4", 16, "\u202f"),
        ("51", 16, "  "),
    ),
    "held_out": (
        ("55", 16, "\u2011"),
        ("4", 16, "\u2212"),
        ("34", 15, "\u2003"),
        ("3528", 16, "\u2014"),
        ("65", 16, "\u3000"),
        ("4", 16, "arabic"),
        ("52", 16, "\u2007"),
        ("4", 13, ""),
        ("62", 16, "\u2010"),
        ("54", 16, " - "),
        ("2221", 16, "\uff0d"),
    ),
}
_IBANS: dict[Part, tuple[tuple[str, int, str], ...]] = {
    "tuned": (
        ("DE", 22, ""),
        ("DE", 22, " "),
        ("FR", 27, "\u00a0"),
        ("GB", 22, "-"),
        ("NO", 15, " "),
    ),
    "held_out": (
        ("ES", 24, "\u202f"),
        ("AT", 20, "\u2011"),
        ("NL", 18, "\u2009"),
        ("PL", 28, "\u2003"),
        ("DE", 22, "fullwidth"),
        ("CH", 21, "lower"),
    ),
}
_PEMS: dict[Part, tuple[str, ...]] = {
    "tuned": (
        "-----BEGIN {k}PRIVATE KEY-----\n{b}\n-----END {k}PRIVATE KEY-----",
        "-----BEGIN {k}PRIVATE KEY-----\n{b}",
        "> -----BEGIN {k}PRIVATE KEY-----\n{q}\n> -----END {k}PRIVATE KEY-----",
        "    -----BEGIN {k}PRIVATE KEY-----\n{i}\n    -----END {k}PRIVATE KEY-----",
        '"-----BEGIN {k}PRIVATE KEY-----\\n{e}\\n-----END {k}PRIVATE KEY-----"',
        "-----BEGIN {k}PRIVATE KEY-----{b1}",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n{b}\n-----END PGP PRIVATE KEY BLOCK-----",
        "> -----BEGIN {k}PRIVATE KEY-----\n{q}",
    ),
    "held_out": (
        "# -----BEGIN {k}PRIVATE KEY-----\n{h}\n# -----END {k}PRIVATE KEY-----",
        'key = (\n"-----BEGIN {k}PRIVATE KEY-----\\n"\n{s}\n"-----END {k}PRIVATE KEY-----\\n")',
        "-----BEGIN {k}PRIVATE KEY-----\r\n{c}\r\n-----END {k}PRIVATE KEY-----",
        "key: |\n  -----BEGIN {k}PRIVATE KEY-----\n{i}\n",
        "-----BEGIN {k}PRIVATE KEY-----\\r\\n{e}",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{b}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
        "> > -----BEGIN {k}PRIVATE KEY-----\n{qq}",
        "-----BEGIN {k}PRIVATE KEY----- {w} -----END {k}PRIVATE KEY-----",
    ),
}

_ESCAPED: dict[Part, tuple[str, ...]] = {
    "tuned": (
        '{{"password":"Tr0\\u0026{s}"}}',
        '{{"p\\u0061ssword":"{s}"}}',
        "{{&quot;password&quot;: &quot;{s}&quot;}}",
        "password%3D{s}",
        'token: "the db password={s}"',
        "{{'token': 'use password: {s} please'}}",
        "secret: my-password={s}",
        '"{{\\"password\\": \\"{s}\\"}}"',
        "authorization=Bearer%20{s}",
    ),
    "held_out": (
        '{{"api\\u005fkey":"{s}"}}',
        "\\u0070assword={s}",
        "&lt;password&gt;{s}&lt;/password&gt;",
        "?x=1%26password%3D{s}",
        'token = "User said: api_key={s}"',
        "password=str,password2={s}",
        '"tokens": "x", "token": "a b c api_key: {s}"',
        "Cookie: 'sid=a1b2c3'; other='{s}'",
        "password\\u003d{s}",
        "secret: use the password: {s}",
    ),
}


def _templates(name: str, family: Family) -> Iterator[Shape]:
    parts: tuple[tuple[Part, tuple[str, ...]], ...] = (
        ("tuned", family.tuned),
        ("held_out", family.held_out),
    )
    for part, templates in parts:
        for template in templates:
            secret = family.secret(Maker(f"{name}{template}"))
            yield Shape(name, part, template.format(s=secret), secret)


def _tokens() -> Iterator[Shape]:
    for part, tokens in _TOKENS.items():
        for number, (template, alphabet, size) in enumerate(tokens):
            token = template.format(Maker(template).some(alphabet, size))
            around = _AROUND[number % len(_AROUND)]
            yield Shape("vendor tokens", part, around.format(token), token)
    for part, seed in (("tuned", "a"), ("held_out", "b")):
        m = Maker(seed)
        for text, secret in (
            ("{}", m.jwt()),
            ("bot{}", f"{m.digits(10)}:AA{m.some(ALNUM + '_-', 33)}"),
            ("M{}", f"{m.some(ALNUM, 23)}.{m.some(ALNUM, 6)}.{m.some(ALNUM + '_-', 38)}"),
            ("a {}", f"pat{m.some(ALNUM, 14)}.{m.some(HEX, 64)}"),
            ("see {}", f"pat-na1-{m.uuid()}"),
        ):
            yield Shape("vendor tokens", part, text.format(secret), secret)  # type: ignore[arg-type]


def _json_keys() -> Iterator[Shape]:
    for part, keys in _JSON_KEYS.items():
        for key in keys:
            secret = Maker(key).password() + "x7"
            yield Shape("JSON values", part, json.dumps({"to": "bob", key: secret, "n": 1}), secret)


_FULL_WIDTH = {ord(digit): chr(0xFF10 + int(digit)) for digit in DIGITS}
_ARABIC = {ord(digit): chr(0x0660 + int(digit)) for digit in DIGITS}


def _spaced(number: str, gap: str) -> str:
    if gap == "fullwidth":
        return number.translate(_FULL_WIDTH)
    if gap == "arabic":
        return number.translate(_ARABIC)
    if gap == "lower":
        return number.lower()
    borders = [0, 4, 10, 15] if len(number) == 15 and number[:2] in ("34", "37") else None
    borders = borders or [*range(0, len(number), 4), len(number)]
    return gap.join(number[a:b] for a, b in pairwise(borders))


def _numbers() -> Iterator[Shape]:
    for part, cards in _CARDS.items():
        for start, size, gap in cards:
            number = _spaced(Maker(f"{start}{size}{gap}").card(start, size), gap)
            yield Shape("card numbers", part, f"my card is {number}, thanks", number)
    for part, ibans in _IBANS.items():
        for country, size, gap in ibans:
            number = _spaced(Maker(f"{country}{gap}").iban(country, size), gap)
            yield Shape("IBANs", part, f"pay to {number} today", number)


def _pems() -> Iterator[Shape]:
    for part, templates in _PEMS.items():
        for number, template in enumerate(templates):
            lines = Maker(template).pem()
            text = template.format(
                k=("RSA ", "", "EC ", "OPENSSH ")[number % 4],
                b="\n".join(lines),
                b1="".join(lines),
                c="\r\n".join(lines),
                e="\\n".join(lines),
                h="\n".join(f"# {line}" for line in lines),
                i="\n".join(f"    {line}" for line in lines),
                q="\n".join(f"> {line}" for line in lines),
                qq="\n".join(f"> > {line}" for line in lines),
                s="\n".join(f'"{line}\\n"' for line in lines),
                w=" ".join(lines),
            )
            yield Shape("private keys", part, text, lines[-1])


FAMILIES: dict[str, Callable[[], Iterator[Shape]]] = {
    "passwords in prose": lambda: _templates("passwords in prose", _PASSWORDS_IN_PROSE),
    "forms of an attacker": lambda: _templates("forms of an attacker", _ATTACK),
    "Markdown": lambda: _templates("Markdown", _MARKDOWN),
    "configuration": lambda: _templates("configuration", _CONFIG),
    "commands": lambda: _templates("commands", _COMMANDS),
    "code": lambda: _templates("code", _CODE),
    "headers": lambda: _templates("headers", _HEADERS),
    "URLs": lambda: _templates("URLs", _URLS),
    "vendor tokens": _tokens,
    "JSON values": _json_keys,
    "card numbers and IBANs": _numbers,
    "private keys": _pems,
    "escaped or nested": lambda: (
        shape
        for part, templates in _ESCAPED.items()
        for template in templates
        for secret in [_password(Maker(template)) + "q4"]
        for shape in [Shape("escaped or nested", part, template.format(s=secret), secret)]
    ),
}


def shapes(part: Part) -> Iterator[tuple[str, Shape]]:
    """Return the shapes of one part with the name of their family."""
    for name, family in FAMILIES.items():
        for shape in family():
            if shape.part == part:
                yield name, shape


def is_held(shape: Shape, redacted: str) -> bool:
    """Whether neither the secret nor half of it is left."""
    plain = _plain(redacted)
    secret = _plain(shape.secret)
    size = max(4, len(secret) // 2)
    return not any(secret[start : start + size] in plain for start in range(len(secret) - size + 1))


def _plain(text: str) -> str:
    """Fold letters and digits of other widths and scripts, and drop gaps."""
    signs = (sign for sign in unicodedata.normalize("NFKC", text) if sign.isalnum())
    return "".join(str(int(sign)) if sign.isdecimal() else sign for sign in signs).lower()
