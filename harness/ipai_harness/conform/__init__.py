"""The conformance kit: whether a webhook, whoever wrote it, does what contract 1 says. Needs no database."""
