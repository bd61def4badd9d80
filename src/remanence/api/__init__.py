"""The HTTP faces.

What every request passes: `guard` (name, host, size), `auth` (key, scope, project, rate), `bodies`, `failures`.
What streams: `stream`, `lookout`. The faces: `agents*` (the Agents API), `response*` and `conversations` (Responses),
`chat*`, `models`, `admin*`; `faces` mounts them, `app` wires, `pages` shows.
"""
