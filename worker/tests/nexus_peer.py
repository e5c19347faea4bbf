#!/usr/bin/env python3
"""The other side of a Nexus operation, by the official Python SDK.

    nexus_peer.py serve ADDRESS QUEUE        handlers on that task queue, until the input ends
    nexus_peer.py call ADDRESS ENDPOINT      calls the operations there, prints one outcome a line
"""

import asyncio
import sys
import uuid

import nexusrpc
import nexusrpc.handler
from temporalio import nexus, workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, NexusOperationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker


@nexusrpc.service(name="works")
class Works:
    ask: nexusrpc.Operation[str, str]
    work: nexusrpc.Operation[str, str]


@workflow.defn(name="PeerWork")
class Work:
    @workflow.run
    async def run(self, order: str) -> str:
        if order == "fail":
            raise ApplicationError("no", type="Refused", non_retryable=True)
        if order == "wait":
            await workflow.wait_condition(lambda: False)
        return f"did {order}"


@nexusrpc.handler.service_handler(service=Works)
class Handler:
    @nexusrpc.handler.sync_operation
    async def ask(self, _context: nexusrpc.handler.StartOperationContext, order: str) -> str:
        if order == "fail":
            raise nexusrpc.OperationError("no", state=nexusrpc.OperationErrorState.FAILED)
        if order == "refuse":
            raise nexusrpc.HandlerError("what?", type=nexusrpc.HandlerErrorType.BAD_REQUEST)
        return f"you said {order}"

    @nexus.workflow_run_operation
    async def work(self, context: nexus.WorkflowRunOperationContext, order: str) -> nexus.WorkflowHandle[str]:
        return await context.start_workflow(Work.run, order, id=f"peer-work-{uuid.uuid4()}")


def why(error: BaseException) -> str:
    """As `why` of nexus_stage.hpp."""
    cause = error.__cause__
    if isinstance(error, NexusOperationError) and isinstance(cause, nexusrpc.HandlerError):
        return f"refused: {cause.type.name}"
    if isinstance(cause, ApplicationError):
        return f"failed: {cause.type}"
    return type(cause).__name__


@workflow.defn(name="PeerCaller")
class Caller:
    @workflow.run
    async def run(self, endpoint: str) -> list[str]:
        client = workflow.create_nexus_client(service=Works, endpoint=endpoint)
        outcomes = []
        for operation, order in [(Works.ask, "this"), (Works.ask, "fail"), (Works.ask, "refuse"),
                                 (Works.work, "this"), (Works.work, "fail")]:
            try:
                outcomes.append(await client.execute_operation(operation, order))
            except NexusOperationError as error:
                outcomes.append(why(error))
        handle = await client.start_operation(Works.work, "wait")
        handle.cancel()
        try:
            outcomes.append(await handle)
        except NexusOperationError as error:
            outcomes.append(why(error))
        return outcomes


async def main(mode: str, address: str, name: str):
    client = await Client.connect(address)
    queue = name if mode == "serve" else f"caller-{uuid.uuid4()}"
    handlers = [Handler()] if mode == "serve" else []
    async with Worker(client, task_queue=queue, workflows=[Work, Caller], nexus_service_handlers=handlers,
                      workflow_runner=UnsandboxedWorkflowRunner()):
        if mode == "serve":
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        else:
            for outcome in await client.execute_workflow(Caller.run, name, id=queue, task_queue=queue):
                print(outcome)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
