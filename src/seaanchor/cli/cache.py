"""`seaanchor cache`: the size of the cache, and its removal. Nothing heavy is imported."""

from cyclopts import App

cache_app = App(name="cache", help="Embeddings that all runs share: show their place and size, or remove them.")


@cache_app.command
def ls() -> None:
    """Show where the cache is and how large it is."""
    from seaanchor.utils import disk_cache

    folder, total = disk_cache.location(), 0
    if folder is None:
        print(f"the cache is off: {disk_cache.VARIABLE} says so, or there is no home folder")
        return
    print(folder)
    for usage in disk_cache.usage():
        total += usage.num_bytes
        print(f"{usage.kind:<10} {usage.entries:>6} entries {usage.num_bytes / 1e6:>10,.1f} MB")
    print(f"{total / 1e9:.2f} of at most {disk_cache.LIMIT / 1e9:.0f} GB")


@cache_app.command
def clear() -> None:
    """Remove every entry. What is needed later is computed again."""
    from seaanchor.utils import disk_cache

    count, num_bytes = disk_cache.clear()
    print(
        f"{count} entries of {num_bytes / 1e6:,.1f} MB removed from "
        f"{disk_cache.location() or 'nowhere: the cache is off'}"
    )
