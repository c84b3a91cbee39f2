"""The reference and the JSON schema of manifests, as text, from `plugins.manifest`.

`python -m loomproxy.plugins` writes them to where they belong.
"""

from typing import Final

from loomproxy.config.document import schema_of, tables_of, written
from loomproxy.plugins.contract import API_VERSION, TOKEN_VARIABLE
from loomproxy.plugins.discovery import DEPTH_MAX, ENTRIES_MAX
from loomproxy.plugins.manifest import BYTES_MAX, Manifest
from loomproxy.plugins.mask import SECRET_CHARS_MIN
from loomproxy.plugins.schema import PATTERN_TEXT_CHARS_MAX, STRING_CHARS_MAX

REFERENCE: Final = "docs/plugin-manifest.md"
SCHEMA: Final = "conf/plugin-schema.json"

_HEAD: Final = f"""\
# The manifest of a plugin

*This page is written from the model by `python -m loomproxy.plugins`. Change
`loomproxy/plugins/manifest.py`, `contract.py` or `document.py`, not this text.*

A plugin is a folder with a `plugin.yaml`, `plugin.yml` or `plugin.json`. The manifest says what the
plugin is, how it is run or reached, and which configuration it takes.

```yaml
metadata:
  name: Acme
  version: 1.0.0
  plugin_api_version: {API_VERSION}
  provider_type: acme # Clients say `model: acme/…`; its configuration is `plugins.config.acme`.
  capabilities: {{streaming: true}}
  config_schema:
    - {{name: api_key, type: string, required: true, sensitive: true}}
    - {{name: timeout, type: int, default: 30, validation: {{min: 1, max: 300}}}}
command: ./plugin.py
```

`conf/plugin-schema.json` lets an editor complete and check manifests: put
`# yaml-language-server: $schema=PATH` into the first line. Every mistake is told at once, with its
path, what was expected and what to do; one bad manifest hides no other.

## How values are written

As in [the configuration](configuration.md): durations are `250ms`, `5s` or seconds, sizes `64KiB`
or bytes, `${{NAME}}`, `${{NAME:-default}}` and `${{file:/path}}` are resolved when the manifest is
read (a relative path is looked up beside it), and unknown keys are refused. Keys are the same in
YAML and JSON. A manifest has at most {BYTES_MAX >> 10} KiB.

## Three kinds of plugins

* A **process** has a `command`: a program that the proxy starts, watches and ends.
* A **remote** plugin has an `endpoint`: somebody else runs it. It keeps the same contract; `auth`
  is what it is shown instead of {TOKEN_VARIABLE}.
* A **builtin** provider has `type: builtin` and an `endpoint`: an upstream that speaks the OpenAI
  dialect itself, reached without another process or hop.

What follows from that:

* `type: http` has exactly one of `command` and `endpoint`. `type: grpc` is refused: no proxy speaks
  it yet.
* `args`, `env`, `user`, `transport`, `limits`, `replicas` and `stop_timeout` belong to a `command`,
  `auth` to an `endpoint`, `path_map` to `type: builtin`. Written where they would do nothing, they
  are refused.
* A `command` with a slash is a path. A relative one begins at the plugin's folder, and may not
  leave it. No shell reads it: arguments are `args`.
* `env` cannot set `LOOM_PLUGIN_…`, which the proxy sets itself.
* The major number of `plugin_api_version` has to be that of {API_VERSION}.

## How plugins are found

Every folder below `plugins.directory` is looked at, to a depth of {DEPTH_MAX}, and at most
{ENTRIES_MAX} files and folders. Hidden folders, `node_modules` and `__pycache__` are passed over.
Links to folders are followed; none is looked at twice, so that a link to a parent does no harm.

* A file named `disabled` in a plugin's folder keeps the plugin out.
* Two manifests in one folder are refused, both.
* Of two folders with one `provider_type` the first by path is kept, and the other refused, with
  both named; a disabled one gives way to one that is not.

## What a configuration has to satisfy

`plugins.config.PROVIDER_TYPE` is held to `metadata.config_schema` before the plugin hears of it.
Defaults are filled in and held to the same rules; keys that the schema does not name are refused;
everything wrong is told at once.

| type | takes | not |
|---|---|---|
| `string` | text of at most {STRING_CHARS_MAX} characters | a number without quotes |
| `int` | a whole number of at most 64 bits | `3.0`, `"3"`, `true` |
| `float` | a finite number, whole ones too | `"3"`, `true`, infinity |
| `bool` | `true`, `false` | `"true"`, `1` |

* Text that a reference stands for is read as the field's type: `timeout: ${{ACME_TIMEOUT}}` is a
  number where the variable holds one.
* A key without a value (null) is a key that is not there. `required` asks for one in the
  configuration, even where there is a `default`; text that is `""`, as an unset
  `${{ACME_API_KEY:-}}` stands for, counts as missing there, and is a value elsewhere.
* `min_length` and `max_length` count characters (code points), not bytes. `min` and `max` are
  themselves allowed. `pattern` has to match the whole text, in Python's syntax, on at most
  {PATTERN_TEXT_CHARS_MAX} characters. `enum` compares by value: 1 is 1.0, but not `true` and not
  `"1"`.
* `sensitive` values never appear in problems, logs and answers; in what the plugin itself says they
  are replaced by `***`, where they have {SECRET_CHARS_MIN} characters or more. So is what
  references in the manifest stand for. Keep secrets out of the manifest: say
  `api_key: ${{ACME_API_KEY}}` in the proxy's configuration.

## Every key
"""


def reference() -> str:
    """The text of docs/plugin-manifest.md."""
    return "\n".join([_HEAD, *tables_of(Manifest)])


def documents() -> dict[str, str]:
    """The path of each document, from the root of the project, and its text."""
    schema = schema_of("manifest of a loomproxy plugin", (Manifest,), required=["metadata"])
    return {REFERENCE: reference(), SCHEMA: written(schema)}
