"""A client in another language, with no library of ours: the official Python SDK starts a provision."""

import asyncio
import json
import os
import sys
import uuid

from temporalio.client import Client


async def main(address, tenant, subscriber):
    client = await Client.connect(address)
    result = await client.execute_workflow(
        "ProvisionSubscriber",
        {"tenant_id": tenant, "customer_id": subscriber, "enable_ipv4": True},
        id=f"order-{uuid.uuid4()}",
        task_queue="addrflow",
    )
    print(json.dumps(result), flush=True)


asyncio.run(main(*sys.argv[1:]))
os._exit(0)  # the SDK's native threads sometimes bring an interpreter down that ends in order
