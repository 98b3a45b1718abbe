-- A handler for events: finds the planned project or task that a record of Odoo is, as soon as Odoo speaks of it.
-- It is called for whatever odoo.event_handlers says; the seed says project.project.* and project.task.*.

create function odoo_seed.map_planned(p_event odoo.webhook_events) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_table text := case p_event.aggregate_type when 'project.project' then 'projects' when 'project.task' then 'tasks' end;
  v_reference text := case when jsonb_typeof(p_event.payload -> 'x_external_ref') = 'string' then p_event.payload ->> 'x_external_ref' end;
  v_planned bigint;
begin
  if v_table is null or not p_event.payload ? 'x_external_ref' then
    return;
  end if;
  if v_table = 'projects' then
    select p.id into v_planned from odoo_seed.projects p where p.instance_id = p_event.instance_id and p.external_ref = v_reference;
  else
    select t.id into v_planned from odoo_seed.tasks t where t.instance_id = p_event.instance_id and t.external_ref = v_reference;
  end if;
  if v_planned is null then
    -- It has no reference any more, or one that names nothing that is planned.
    delete from odoo.entity_mappings m
    where m.instance_id = p_event.instance_id and m.odoo_model = p_event.aggregate_type and m.odoo_id = p_event.aggregate_id
      and m.supabase_schema = 'odoo_seed' and m.supabase_table = v_table;
    return;
  end if;
  insert into odoo.entity_mappings as m (instance_id, odoo_model, odoo_id, supabase_schema, supabase_table, supabase_id, sequence)
  values (p_event.instance_id, p_event.aggregate_type, p_event.aggregate_id, 'odoo_seed', v_table, v_planned::text, p_event.sequence)
  on conflict on constraint entity_mappings_once do update
    set supabase_id = excluded.supabase_id, sequence = greatest(m.sequence, excluded.sequence), updated_at = excluded.updated_at;
end
$$;
comment on function odoo_seed.map_planned(odoo.webhook_events) is
  'Handler: the mapping of a project or task to the row of odoo_seed.projects or odoo_seed.tasks that its x_external_ref names. What names none has no mapping.';
revoke execute on function odoo_seed.map_planned(odoo.webhook_events) from public, anon, authenticated;
