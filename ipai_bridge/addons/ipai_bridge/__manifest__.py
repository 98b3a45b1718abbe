{
    "name": "ipai_bridge",
    "summary": "Puts ipai_bridge.emit(…) into server actions",
    "description": """
Loaded server-wide (--load=base,rpc,web,ipai_bridge): nothing is installed in a database. It has no models, no tables
and no views; what it does happens in `post_load`.
""",
    "version": "19.0.0.1.0",
    "author": "The ipai_bridge founders",
    "license": "LGPL-3",
    "category": "Technical",
    "depends": ["base"],
    "installable": True,
    "post_load": "post_load",
}
