"""
Options of stores: those that fsspec's users know, those of obstore, and what is in the environment.

obstore reads the environment by itself (AWS_*, GOOGLE_*, AZURE_*), and asks the machine's role if nothing is given.
What it does not read, the files of AWS' own tools, is read here.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ndzarr._remote.urls import Address
from ndzarr.errors import OptionError, did_you_mean

_NAMES: dict[str, dict[str, str]] = {
    "s3": {
        "key": "access_key_id",
        "secret": "secret_access_key",
        "token": "session_token",
        "anon": "skip_signature",
        "endpoint_url": "endpoint",
        "region_name": "region",
        "requester_pays": "request_payer",
    },
    "gs": {
        "token": "service_account",
        "anon": "skip_signature",
        "endpoint_url": "base_url",
    },
    "az": {
        "account": "account_name",
        "sas_token": "sas_key",
        "anon": "skip_signature",
        "endpoint_url": "endpoint",
    },
    "http": {},
}
"""Kind of store to fsspec's names of options, and obstore's for the same."""
_KNOWN: dict[str, tuple[str, ...]] = {
    "s3": (
        *("access_key_id", "secret_access_key", "session_token", "skip_signature", "endpoint", "region"),
        *("request_payer", "virtual_hosted_style_request", "role_arn", "role_session_name", "web_identity_token_file"),
        *("server_side_encryption", "sse_kms_key_id", "unsigned_payload", "conditional_put", "checksum_algorithm"),
        *("container_credentials_relative_uri", "imdsv1_fallback", "metadata_endpoint", "disable_tagging"),
    ),
    "gs": ("service_account", "service_account_key", "application_credentials", "skip_signature", "base_url"),
    "az": (
        *("account_name", "account_key", "sas_key", "skip_signature", "endpoint", "client_id", "client_secret"),
        *("tenant_id", "authority_host", "use_emulator", "use_azure_cli", "use_fabric_endpoint", "token"),
        *("federated_token_file", "msi_endpoint", "object_id", "msi_resource_id", "disable_tagging"),
    ),
    "http": (),
}
"""Kind of store to obstore's own names."""
_OURS = ("client_options", "client_kwargs", "profile", "headers", "connection_string", "use_ssl", "config_kwargs")
_PREFIX = re.compile("^(aws|google|azure_storage|azure)_")
"""What obstore's names and those of the environment may begin with."""
_CLIENT = ("allow_http", "allow_invalid_certificates", "default_headers", "proxy_url", "root_certificate", "user_agent")


class Login(NamedTuple):
    """How a store is reached."""

    options: dict[str, Any]
    """Arguments of obstore's class."""
    tried: str
    """Where its credentials are from, for messages."""


def login(address: Address, given: Mapping[str, Any] | None, timeout: float) -> Login:
    """Return obstore's options for a store; raise `OptionError` for one that is not known."""
    names, known = _NAMES[address.kind], _KNOWN[address.kind]
    options: dict[str, Any] = {}
    client: dict[str, Any] = {"timeout": f"{max(1, round(timeout * 1000))}ms"}
    profile: str | None = None
    for said, value in _flat(given or {}).items():
        name = _PREFIX.sub("", str(said).lower())
        if name == "profile" and address.kind == "s3":
            profile = value
        elif name == "headers":
            client["default_headers"] = dict(value)
        elif name in _CLIENT:
            client[name] = _truth(value) if name.startswith("allow") else value
        elif name == "use_ssl":
            client["allow_http"] = not value
        elif (own := names.get(name, name)) in known:
            if value is not None:
                options[own] = value
        else:
            near = did_you_mean(said, [*names, *known, *_OURS, *_CLIENT])
            message = f"{address.root}: storage_options has no {said!r} for {address.kind}{near}"
            raise OptionError(message, path=address.root, key=str(said))
    tried = _LOGINS[address.kind](address, options, profile)
    endpoint = options.get("endpoint") or options.get("base_url") or ""
    if address.kind == "s3":
        endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    plain = address.root.startswith("http://") or str(endpoint).startswith("http://")
    if plain or _truth(options.get("use_emulator")):
        client.setdefault("allow_http", True)
    return Login({**options, "client_options": client}, tried)


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with those of the nested mappings of s3fs and obstore beside the others."""
    out: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("client_kwargs", "client_options", "config") and isinstance(value, Mapping):
            out |= value
        elif name == "connection_string" and isinstance(value, str):
            parts = dict(part.partition("=")[::2] for part in value.split(";") if part)
            out |= {own: parts[key] for key, own in _CONNECTION.items() if key in parts}
        elif name != "config_kwargs":
            out[name] = value
    return out


_CONNECTION = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}
"""Parts of an Azure connection string to options."""


def _s3(_: Address, options: dict[str, Any], profile: str | None) -> str:
    if _truth(options.get("skip_signature")):
        return "no credentials (anonymous)"
    if "access_key_id" in options:
        return "the access key in storage_options"
    environment = os.environ
    if profile is None and environment.get("AWS_ACCESS_KEY_ID"):
        return "AWS_ACCESS_KEY_ID of the environment"
    if profile is None and _truth(environment.get("AWS_SKIP_SIGNATURE")):
        return "no credentials (AWS_SKIP_SIGNATURE)"
    name = profile or environment.get("AWS_PROFILE") or "default"
    file = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    keys = _section(file, name)
    if "aws_access_key_id" in keys:
        options["access_key_id"] = keys["aws_access_key_id"]
        options["secret_access_key"] = keys.get("aws_secret_access_key", "")
        if "aws_session_token" in keys:
            options["session_token"] = keys["aws_session_token"]
        config = Path(environment.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
        region = _section(config, name if name == "default" else f"profile {name}").get("region")
        if region and "region" not in options and not environment.get("AWS_REGION"):
            options["region"] = region
        return f"profile {name!r} of {file}"
    if profile is not None:
        message = f"{file}: has no keys for profile={profile!r}"
        raise OptionError(message, path=str(file), key="profile", hint="Name a profile that has an access key")
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return "AWS_WEB_IDENTITY_TOKEN_FILE of the environment"
    return "no keys in storage_options, in the environment (AWS_ACCESS_KEY_ID) or in ~/.aws, so the machine's role"


def _section(file: Path, name: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file)
        return parser[name]
    except (OSError, KeyError, configparser.Error, UnicodeDecodeError):  # no file that AWS' tools would understand
        return {}


def _gs(_: Address, options: dict[str, Any], __: str | None) -> str:
    token = options.get("service_account")
    if token == "anon":
        del options["service_account"]
        options["skip_signature"] = True
    elif token in ("google_default", "cloud"):
        del options["service_account"]
    elif isinstance(token, Mapping):
        import json

        options["service_account_key"] = json.dumps(dict(options.pop("service_account")))
    if _truth(options.get("skip_signature")):
        return "no credentials (anonymous)"
    if options.keys() & {"service_account", "service_account_key", "application_credentials"}:
        return "the service account in storage_options"
    for name in ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"):
        if os.environ.get(name):
            return f"{name} of the environment"
    return "no account in storage_options or in the environment (GOOGLE_APPLICATION_CREDENTIALS), so gcloud's default"


def _az(address: Address, options: dict[str, Any], _: str | None) -> str:
    account = address.root.partition("@")[2]
    if account:
        options.setdefault("account_name", account)
    if _truth(options.get("skip_signature")):
        return "no credentials (anonymous)"
    for key, what in (("account_key", "account key"), ("sas_key", "SAS token"), ("client_secret", "client secret")):
        if key in options:
            return f"the {what} in storage_options"
    for name in ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_TOKEN"):
        if os.environ.get(name):
            return f"{name} of the environment"
    return "no key in storage_options or in the environment (AZURE_STORAGE_ACCOUNT_KEY), so the managed identity"


def _http(address: Address, options: dict[str, Any], _: str | None) -> str:
    if address.query:
        return "the query of the URL"
    return "the user and password of the URL" if address.user else "none"


_LOGINS = {"s3": _s3, "gs": _gs, "az": _az, "http": _http}


def _truth(value: Any) -> bool:
    return value is True or str(value).lower() in ("true", "1")
