"""Names that both a run and its stages know, in a file that imports nothing."""

RUNGS = ("compiled", "captured")  # that the engine may refuse
# The folder for the evidence of a stage beside its rows; unset: nobody collects evidence
EVIDENCE = "FASTGAN_BENCH_EVIDENCE"
REFUSALS, CODE = "refusals.jsonl", "code"  # in that folder

# Variants of a refused step, beside OP=IMPLEMENTATION.
AS_REFUSED, DRAW, READ, EAGER_STEP, REFERENCE = (
    "as refused",
    "draw",
    "draw and read",
    "uncompiled step",
    "reference operators",
)
WITHOUT = "without "  # and the name of an option of the compiler's
