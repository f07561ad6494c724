"""The execution ladder of a step: eager, compiled, captured, each rung checked against eager."""
