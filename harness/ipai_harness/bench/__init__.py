"""Measurements on the real parts, beside a yardstick in the same run. One file per subject; `result` is their form.

A figure without its machine, its date and its command says nothing: the report carries all three.
"""
