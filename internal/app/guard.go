package app

// AttemptLog is the audit file that the guard writes, in the audit directory.
const AttemptLog = "attempts.jsonl"
