"""Bearer tokens, good and bad, made without any JWT library."""

import base64
import hashlib
import hmac
import itertools
import json
import time
import uuid

SECRET = "an-hs256-secret-for-tests-only-0123456789abcdef"

_number = itertools.count(1)


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def mint(user, *, secret=SECRET, header=None, expires_in=3600, digest=hashlib.sha256, **claims):
    """A token for `user`; None as a claim's value leaves the claim out."""
    now = int(time.time())
    payload = {"sub": user, "exp": now + expires_in, **claims}
    payload = {key: value for key, value in payload.items() if value is not None}
    parts = [header or {"alg": "HS256", "typ": "JWT"}, payload]
    signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{b64(hmac.new(secret.encode(), signed.encode(), digest).digest())}"


def new_user():
    """A user that no other test knows."""
    return f"user-{next(_number)}-{uuid.uuid4().hex[:8]}"
