"""An export to the Hugging Face Hub. What would be uploaded is listed first, also where there is no Hub."""

from pathlib import Path

from seaanchor.encoders.hub import why_unreachable
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import log
from seaanchor.utils.text import plural


def check_push(repository: str, folder: Path) -> None:
    """Fail before anything is exported, where nothing could be uploaded afterwards.

    Args:
        repository: ORG/NAME.
        folder: of the export, which must hold nothing else.

    Raises:
        SeaAnchorError: huggingface_hub is missing, the name is none, or the folder is in use.
    """
    try:
        from huggingface_hub.utils import HFValidationError, validate_repo_id
    except ImportError as error:
        raise SeaAnchorError(
            "huggingface_hub is not installed", "the extra `hf`", "pip install 'seaanchor[hf]'"
        ) from error
    try:
        validate_repo_id(repository)
        valid = repository.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise SeaAnchorError(
            f"--push {repository}", "ORG/NAME, of letters, digits, '-', '_' and '.'", "name the repository"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SeaAnchorError(
            f"--push uploads all of a folder, and {folder} is not empty",
            "a new or empty folder",
            "name another --output",
        )


def contents(folder: Path) -> dict[str, int]:
    """The files of an export with their sizes in bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def push(folder: Path, repository: str) -> str:
    """Upload an export; a repository that is not there is made, and is private.

    Args:
        folder: of the export.
        repository: ORG/NAME.

    Returns:
        The address of the repository.

    Raises:
        SeaAnchorError: the Hub cannot be reached, after the files were listed, or it refuses.
    """
    from huggingface_hub import HfApi, constants

    files = contents(folder)
    log.info(f"for {repository}:")
    for name, size in files.items():
        log.info(f"  {name:<32} {size:>14,} bytes")
    log.info(f"  {plural(len(files), 'file')}, {sum(files.values()):,} bytes")
    later = f"hf upload {repository} {folder}"
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else why_unreachable()
    if reason is not None:
        raise SeaAnchorError(
            f"nothing was uploaded, the Hub cannot be reached ({reason}); the export in {folder} is complete",
            "a connection to the Hub",
            f"once there is one: {later}",
        )
    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export by Sea Anchor")
    except Exception as error:  # no token, no right, a connection that ended: each in its own way
        reason = " ".join(str(error).split())[:300]
        raise SeaAnchorError(
            f"{repository} was not uploaded: {reason}",
            "a token that may write there (`hf auth login`)",
            f"the export in {folder} is complete; afterwards: {later}",
        ) from error
    return f"{api.endpoint}/{repository}"
