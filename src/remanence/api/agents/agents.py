"""The Agents API: reusable agents. Sessions of them are in `agents/sessions.py`.

`OpenAI(base_url="http://127.0.0.1:7410/v1", api_key=KEY).beta.agents` works unchanged. A change of an agent makes a
version; sessions keep theirs. The agents that this process was started with are listed under their names; they are
changed where they are declared.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from remanence.api.agents.bodies import AgentBody, AgentChanges, AgentSettings, SessionAgentChanges
from remanence.api.agents.config import SETTINGS, Config, blank_config, changed_config, config_of, spec_of_config
from remanence.api.agents.mcp import NO_SERVERS, Servers, servers_among, servers_of
from remanence.api.agents.memory import check_agent, memory_of
from remanence.api.agents.objects import seconds
from remanence.api.auth import may
from remanence.api.bodies import JsonRoute
from remanence.api.described import answers
from remanence.api.lists import Paged, answer, list_answer
from remanence.api.named import Served, known_names
from remanence.api.once import once
from remanence.api.router import Face
from remanence.api.unfit import check_settings
from remanence.commands import saved
from remanence.commands.caller import Caller, body_digest
from remanence.commands.saved import SavedAgent
from remanence.commands.versions import newest
from remanence.content import digest_of
from remanence.errors import InvalidConfig, InvalidInput, NotFound, Unsupported
from remanence.spec import AgentSpec, ModelSettings

__all__ = [
    "Asker",
    "IdempotencyKey",
    "Serves",
    "agents_router",
    "checked_model",
    "fitting",
    "saved_agent",
    "saved_spec",
    "served_by",
    "servers_for",
]


async def _in_the_beta(request: Request, caller: Annotated[Caller, Depends(may("api"))]) -> Caller:
    """Who asks. The vendors' client names the version of the API that it speaks; whoever names none means this one."""
    given = ",".join(request.headers.getlist("openai-beta"))
    if given and BETA not in (one.strip() for one in given.split(",")):
        raise Unsupported(
            f"openai-beta: the Agents API is served as {BETA}, not as {given[:60]!r}. Nothing was done. Leave the "
            "header out, or name what is served.",
            param="openai-beta",
        )
    return caller


BETA = "agents=v1"
Asker = Annotated[Caller, Depends(_in_the_beta)]
IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=255, description="The same key and body again: the same answer.")
]

agents_router = Face(prefix="/agents", tags=["agents"], route_class=JsonRoute)


def served_by(request: Request) -> Served:
    """What is served: the open runtime."""
    return request.app.state.runtime


Serves = Annotated[Served, Depends(served_by)]


@agents_router.post("", summary="Save an agent", openapi_extra=answers("Agent"))
async def create_agent(
    body: AgentBody, caller: Asker, served: Serves, idempotency_key: IdempotencyKey = None
) -> Response:
    """A reusable agent. Its `model` must be one this server reaches; function tools are run by the client."""
    config = changed_config(blank_config(body.model), body)
    checked_model(served, config, "model")
    name = caller.make_id("agent")
    if idempotency_key is not None:
        name = f"agent_{digest_of(caller.project.encode(), idempotency_key.encode())[:30]}"
    request = body_digest(body.model_dump(mode="json", exclude_unset=True)) if idempotency_key else ""
    made = await saved.made_by(caller, name, request) if request else None
    if made is None:
        spec = await fitting(served, saved_spec(config, name, 1, await servers_for(served, body)))
        made = await saved.create_agent(caller, spec, request=request)
    return answer(agent_object(made))


@agents_router.get("/{agent_id}", summary="One agent", openapi_extra=answers("Agent"))
async def retrieve_agent(agent_id: str, caller: Asker, served: Serves) -> Response:
    """The agent as it is now."""
    return answer(agent_object(await saved_agent(served, caller, agent_id)))


@agents_router.post("/{agent_id}", summary="Change an agent", openapi_extra=answers("Agent"))
@once
async def update_agent(
    agent_id: str, body: AgentChanges, caller: Asker, served: Serves, idempotency_key: IdempotencyKey = None
) -> Response:
    """What is left out stays. Sessions keep the version they were opened with."""
    known, mark = await saved_agent(served, caller, agent_id), ""
    if idempotency_key is not None:
        mark = digest_of(
            idempotency_key.encode(), body_digest(body.model_dump(mode="json", exclude_unset=True)).encode()
        )
        if await saved.changed_by(caller, known.id, mark):  # whoever did it died before it answered
            return answer(agent_object(known))
    config = changed_config(config_of(known.spec), body)
    checked_model(served, config, "model")
    servers = await servers_for(served, body, known=known.spec)
    spec = await fitting(served, saved_spec(config, known.id, known.revision + 1, servers))
    return answer(agent_object(await saved.change_agent(caller, known, spec, mark=mark)))


@agents_router.get("", summary="Agents", openapi_extra=answers("Agent", many=True))
async def list_agents(caller: Asker, served: Serves, page: Paged) -> Response:
    """Agents of the project, in the order they were made."""
    if caller.project == served.caller.project:
        for name in served.shelf.agents():
            await saved.announce(caller, await served.spec_of(name))
    found, more = page.cut(
        await saved.list_agents(caller, after=page.after, newest_first=not page.forward, limit=page.limit + 1)
    )
    return list_answer([agent_object(one) for one in found], has_more=more)


@agents_router.delete("/{agent_id}", summary="Remove an agent", openapi_extra=answers("AgentDeleted"))
async def delete_agent(agent_id: str, caller: Asker, served: Serves) -> Response:
    """Sessions of it go on."""
    await saved_agent(served, caller, agent_id)
    await saved.remove_agent(caller, agent_id)
    return answer({"id": agent_id, "object": "agent.deleted", "deleted": True})


# --- what routes share ------------------------------------------------------------------------------------------------


async def saved_agent(served: Served, caller: Caller, agent: str) -> SavedAgent:
    """An agent by its id: one that this process was started with, a saved one, or one that was registered."""
    if caller.project == served.caller.project and agent in served.shelf.agents():
        await saved.announce(caller, await served.spec_of(agent))
    try:
        return await saved.find_agent(caller, agent)
    except NotFound:
        versions = await caller.database.specs.versions(caller.project, agent)
        if not versions or newest(versions).spec.face:
            raise
    await saved.announce(caller, newest(versions).spec)
    return await saved.find_agent(caller, agent)


def saved_spec(config: Config, agent: str, revision: int, servers: Servers) -> AgentSpec:
    """The version of a saved agent that a configuration means, with the memory that its metadata asks for."""
    check_agent(config["metadata"])
    return spec_of_config(config, agent, servers=servers, revision=revision, memory=memory_of(config["metadata"]))


async def fitting(served: Served, spec: AgentSpec, *, at: str = "") -> AgentSpec:
    """The version itself. Raises InvalidInput when its model is known not to do what it asks. `at`: as below."""
    paths = {name: f"{at}{SETTINGS.get(name, name)}" for name in ModelSettings.__struct_fields__}
    await check_settings(served, spec.model, spec.settings, spec.tools, paths)
    return spec


async def servers_for(
    served: Served,
    body: AgentBody | AgentChanges | AgentSettings | SessionAgentChanges,
    *,
    known: AgentSpec | None = None,
    at: str = "",
) -> Servers:
    """What the MCP servers of a declaration offer: those it names are asked; without `tools`, those of `known` stay.

    `at` is where the declaration lies in the request. Raises InvalidInput with the path, McpUnreachable.
    """
    if "tools" not in body.model_fields_set:
        return servers_of(known) if known is not None else NO_SERVERS
    return await servers_among(served.shelf, body.tools or (), f"{at}tools", known=known)


def checked_model(served: Served, config: Config, path: str) -> None:
    """Refuse a model that this server does not reach: its turns could only fail."""
    model = str(config["model"])
    if model in known_names(served):
        return
    try:
        if model.startswith("scripted:"):
            raise NotFound("a script in a file needs an alias of its own")
        served.gateway.resolve(model)
    except (NotFound, InvalidConfig) as error:
        raise InvalidInput(
            f"{path}: there is no model {model!r} here. Nothing was written. GET /v1/models lists those there are; a "
            f"model of a provider is named `provider:name`. ({error.message})",
            param=path,
        ) from None


def agent_object(agent: SavedAgent) -> dict[str, Any]:
    """An agent as it is shown."""
    return {
        "id": agent.id,
        "object": "agent",
        "created_at": seconds(agent.created_at),
        "updated_at": seconds(agent.updated_at),
        **config_of(agent.spec),
    }
