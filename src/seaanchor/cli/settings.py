"""Settings of a run as flags."""

from typing import Annotated

from cyclopts import Parameter, default_name_transform

from seaanchor.config.schema import RunConfig


def _flag(name: str) -> str:
    """The flag of a setting; `--plugin my_module` names one of the plugins."""
    return {"plugins": "plugin"}.get(name) or default_name_transform(name)


Settings = Annotated[RunConfig, Parameter(name="*", consume_multiple=True, name_transform=_flag)]
"""Every setting of a run as a flag of its name."""
