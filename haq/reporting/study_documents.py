"""Reading of the results that `haq compare` and `haq pareto` write into their folders."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from haq.errors import UserError
from haq.file_limits import RUN_DOCUMENT, read_bytes

Document = TypeVar("Document", bound=BaseModel)


def read_document(path: Path, kind: type[Document], *, command: str) -> Document:
    """Read the results of a study.

    Args:
        path: File of the results in the folder of the study.
        kind: Class of the results.
        command: Name of the command that writes them, such as `compare`.

    Returns:
        The results.

    Raises:
        UserError: The folder has no such file, or the file is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path.parent} holds no {path.name}; haq {command} --out {path.parent} writes it")
    content = read_bytes(path, RUN_DOCUMENT)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path} is damaged; haq {command} --resume writes it anew") from error
