"""What a scenario leaves behind for whoever has to understand it: steps, exchanges, rows, logs, in one file each.

`collect` reads it all from the stack when a scenario ends, `masking` takes secrets and personal data out of it,
`report` writes one HTML file that opens offline and the same as JSON.
"""
