"""Looks at what arrived: outbox, webhook events, and the way between them."""
