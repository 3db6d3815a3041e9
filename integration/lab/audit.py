#!/usr/bin/python3
"""Reads the bridge's audit file (one JSON object per line).

    audit.py FILE show                      every event on one readable line
    audit.py FILE find FIELD=VALUE…         wait for an event with these values and print it
    audit.py FILE why FIELD=VALUE…          the same, but print its stage, reason and detail

In `find`, `principal` matches when it is the account before the first `@`, the value * when the
field says anything at all, other values exactly. Several events may match, the last one is printed.
Exit status 1: none came in time.
"""

import json
import sys
import time

DEADLINE = 5.0
SHOWN = ("outcome", "stage", "reason", "principal", "backend_status", "correlation_id")


def events(path):
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.strip()]


def account(principal):
    return str(principal or "").replace("\\@", "@").split("@")[0]


def matches(event, wanted):
    for field, value in wanted.items():
        found = event.get(field)
        if field == "principal":
            found = account(found)
        if str(found) != value and not (value == "*" and found):
            return False
    return True


def one_line(event):
    return "  ".join(f"{field}={event[field]}" for field in SHOWN if event.get(field) is not None)


def reason(event):
    said = f"refused at stage {event.get('stage')}: {event.get('reason')}"
    return f"{said}\n{event['detail']}" if event.get("detail") else said


def main():
    path, action, *rest = sys.argv[1:]
    if action == "show":
        for event in events(path):
            print(one_line(event))
        return 0
    wanted = dict(item.split("=", 1) for item in rest)
    until = time.monotonic() + DEADLINE
    while True:
        found = [event for event in events(path) if matches(event, wanted)]
        if found:
            print(reason(found[-1]) if action == "why" else one_line(found[-1]))
            return 0
        if time.monotonic() > until:
            return 1
        time.sleep(0.1)


sys.exit(main())
