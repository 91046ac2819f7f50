"""Writes the plan's JSON Schema beside itself: `make schema`."""

import json
from pathlib import Path

from zdd_tui.model.plan.registry import build_plan_schema

Path(__file__).with_name("plan.schema.json").write_text(json.dumps(build_plan_schema(), indent=2) + "\n")
