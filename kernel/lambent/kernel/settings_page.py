"""Makes docs/settings.md from the settings' own fields, so that the page cannot say something else.

`PYTHONPATH=kernel .venv/bin/python -m lambent.kernel.settings_page > docs/settings.md`; a test compares.
"""

from lambent.kernel.settings import Settings

_HEAD = """# Settings

Flags of `lambent up` win over `LAMBENT_*` variables, which win over `lambent.toml` (in the data folder, or the
file that `LAMBENT_CONFIG` names). In the toml file the names are small and without the prefix: `port = 9010`.
A name in the file that is no setting, or a named file that is not there, is refused; a variable that is no
setting is warned of.

`AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_*` of the server's own environment name services that functions may
reach although they are on loopback; functions get these variables too, unless they set their own.

| variable | default | what |
|---|---|---|
"""
# Defaults that depend on the machine are told in words.
_TOLD = {"data_dir": "`/var/lib/lambent` as root, else `~/.local/share/lambent`"}


def page() -> str:
    """The page's text."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=False)
        if name in _TOLD:
            shown = _TOLD[name]
        elif default is None or default == ():
            shown = "unset"
        else:
            shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        rows.append(f"| `LAMBENT_{name.upper()}` | {shown} | {field.description} |\n")
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
