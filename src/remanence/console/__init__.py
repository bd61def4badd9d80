"""The console: one function and one template per page, over the same verbs as everything else.

It is a router like the faces of `api/`, handed to `build_app`. Pages are made on the server; a page of the browser's
own needs no build step and nothing from another origin, so that the console works offline and can forbid itself all
else (see `frame.POLICY`). Every page at `/PATH` has a twin at `/PATH.json` that answers with the data it shows.
"""
