"""The HTTP faces.

What every request passes: `guard` (name, host, size), `auth` (key, scope, project, rate), `bodies`, `failures`.
What streams: `stream`, `lookout`. The faces are packages: `agents` (the Agents API), `responses` (with conversations),
`chat`, `admin`; and the page `models`. `faces` mounts them, `app` wires, `pages` shows.
"""
