drop function access.permits(text);
drop schema access;
