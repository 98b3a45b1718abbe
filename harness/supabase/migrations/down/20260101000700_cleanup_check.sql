-- What it closed stays closed.
drop function ops.what_stands_open();
drop function ops.our_schemas();
