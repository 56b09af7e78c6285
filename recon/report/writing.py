"""Files that appear whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on any error it is removed.

    The parent folder is created. A file that was at `path` stays until the new one is complete.

    Raises:
        IsADirectoryError: `path` is a folder.
        NotADirectoryError: the parent of `path` is a file.
    """
    target = Path(path).expanduser()
    if target.is_dir():
        raise IsADirectoryError(
            f"{target} is a folder; give the name of a file in it, e.g. {target / 'report.html'}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(
            f"cannot create the folder {target.parent} for {target.name}: a file of that name is in the way"
        ) from None
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
