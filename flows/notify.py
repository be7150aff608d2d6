"""Messages of runs to a chat, by Prefect's automations: NOTIFY_URL=https://… python -m flows.notify.

The address is that of an incoming webhook that takes ``{"text": …}``, as Slack, Mattermost and many others have. It is
kept encrypted in the block ``geoml-notify``. Given again, block and automations are replaced.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import cast

from prefect.automations import Automation, EventTrigger
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.events import ResourceSpecification

from .server import patiently

BLOCK = "geoml-notify"
BODY = "{{ flow_run.state.message }}\n{{ flow_run|ui_url or '' }}"
WHEN = {
    "geoml: a run failed": ({"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}, "tag", "geoml"),
    "geoml: something new": ({"prefect.flow-run.Completed"}, "flow", "monitor"),
}
"""Events and what they are of, by the name of the automation. A night without anything new ends as Skipped."""


def automations(block: CustomWebhookNotificationBlock) -> list[Automation]:
    """One for runs that failed, one for nights that found something."""
    made = []
    for name, (events, role, related) in WHEN.items():
        resource = {"prefect.resource.role": role, **_named(role, related)}
        trigger = EventTrigger(
            expect=events,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(resource),
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        )
        subject = f"{name}: {{{{ flow_run.name }}}}"
        action = SendNotification(block_document_id=block._block_document_id, subject=subject, body=BODY)
        made.append(Automation(name=name, description="made by flows.notify", trigger=trigger, actions=[action]))
    return made


def _named(role: str, name: str) -> dict[str, str]:
    """How an event names what it is related to: tags by their id, flows by their name."""
    return {"prefect.resource.id": f"prefect.tag.{name}"} if role == "tag" else {"prefect.resource.name": name}


def register(url: str) -> list[str]:
    """Save the block and make the automations again; their names."""
    block = CustomWebhookNotificationBlock(
        name=BLOCK, url="{{address}}", secrets={"address": url}, json_data={"text": "{{subject}}\n{{body}}"}
    )
    block.save(BLOCK, overwrite=True)
    for automation in automations(block):
        with suppress(ValueError):  # there is none of this name yet
            cast(Automation, Automation.read(name=automation.name)).delete()
        automation.create()
    return list(WHEN)


def main(argv: Sequence[str] | None = None) -> int:
    """Take the address from the environment, where no list of processes shows it."""
    about = "Tell the webhook at NOTIFY_URL when a run fails and when a night finds something new."
    argparse.ArgumentParser(prog="python -m flows.notify", description=about).parse_args(argv)
    url = os.environ.get("NOTIFY_URL", "")
    if not url.startswith(("https://", "http://")):
        print("InputError NOTIFY_URL: expected the https URL of an incoming webhook", file=sys.stderr)
        return 2
    for name in patiently(lambda: register(url)):
        print(f"made {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
