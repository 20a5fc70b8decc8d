"""Many turns at once."""

from concurrent.futures import ThreadPoolExecutor

from .tokens import new_user


def at_once(function, items, threads=32):
    """`[function(item), ...]`, called from so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def ask_all(gateway, messages, *, threads=32, **options):
    """A whole turn for each message, each of a user of its own: `[(user, turn), ...]`.

    A message may be `(message, options)`: with more options of its own.
    """

    def ask(message):
        message, more = message if isinstance(message, tuple) else (message, {})
        user = new_user()
        return user, gateway.ask(user, message, **options, **more)

    return at_once(ask, messages, threads)
