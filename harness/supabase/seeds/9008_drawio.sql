-- The architecture as draw.io shows it: open the text between the marks in draw.io. What is connected here is lineage in the
-- catalog, and what is drawn has to be an asset: see catalog.put_diagram.

select catalog.put_diagram('diagram.ipai.event_flow', 'The way of an event', 'From the business transaction in Odoo to figures and subscribers.', $drawio$
<mxfile><diagram id="event_flow" name="The way of an event"><mxGraphModel><root><mxCell id="0"/><mxCell id="1" parent="0"/>
<object id="server" label="Odoo CE 19" fqdn="bridge.odoo.server"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="0" y="0" width="180" height="40" as="geometry"/></mxCell></object>
<object id="outbox" label="outbox" fqdn="bridge.odoo.outbox"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="0" width="180" height="40" as="geometry"/></mxCell></object>
<object id="relay" label="relay" fqdn="bridge.odoo.relay"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="0" width="180" height="40" as="geometry"/></mxCell></object>
<object id="webhook" label="odoo-webhook" fqdn="bridge.functions.odoo_webhook"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="80" width="180" height="40" as="geometry"/></mxCell></object>
<object id="inbox" label="odoo.webhook_events" fqdn="supabase.odoo.webhook_events"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="80" width="180" height="40" as="geometry"/></mxCell></object>
<object id="realtime" label="realtime-sync" fqdn="bridge.functions.realtime_sync"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="0" y="80" width="180" height="40" as="geometry"/></mxCell></object>
<object id="channel" label="odoo-sync" fqdn="bridge.supabase.channel"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="0" y="160" width="180" height="40" as="geometry"/></mxCell></object>
<object id="summary" label="v_revenue_summary" fqdn="scout.gold.v_revenue_summary"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="160" width="180" height="40" as="geometry"/></mxCell></object>
<object id="against" label="v_revenue_against_target" fqdn="scout.gold.v_revenue_against_target"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="240" width="180" height="40" as="geometry"/></mxCell></object>
<object id="volume" label="mv_event_volume" fqdn="scout.gold.mv_event_volume"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="160" width="180" height="40" as="geometry"/></mxCell></object>
<object id="revenue" label="Revenue" fqdn="metric.gold.revenue"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="0" y="240" width="180" height="40" as="geometry"/></mxCell></object>
<object id="invoices" label="Posted invoices" fqdn="metric.gold.invoices"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="0" y="320" width="180" height="40" as="geometry"/></mxCell></object>
<object id="attainment" label="Attainment" fqdn="metric.gold.target_attainment"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="320" width="180" height="40" as="geometry"/></mxCell></object>
<object id="events" label="Events" fqdn="metric.gold.events"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="240" width="180" height="40" as="geometry"/></mxCell></object>
<object id="failed" label="Share of failed events" fqdn="metric.gold.failed_share"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="320" width="180" height="40" as="geometry"/></mxCell></object>
<mxCell id="e1" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="server" target="outbox"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e2" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="outbox" target="relay"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e3" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="relay" target="webhook"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e4" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="webhook" target="inbox"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e5" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="inbox" target="realtime"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e6" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="realtime" target="channel"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e7" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="inbox" target="summary"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e8" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="summary" target="against"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e9" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="inbox" target="volume"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e10" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="summary" target="revenue"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e11" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="summary" target="invoices"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e12" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="against" target="attainment"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e13" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="volume" target="events"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e14" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="volume" target="failed"><mxGeometry relative="1" as="geometry"/></mxCell>
</root></mxGraphModel></diagram></mxfile>
$drawio$);

select catalog.put_diagram('diagram.ipai.scheduled_syncs', 'The scheduled syncs', 'What is read of Odoo, and where it is kept.', $drawio$
<mxfile><diagram id="scheduled_syncs" name="The scheduled syncs"><mxGraphModel><root><mxCell id="0"/><mxCell id="1" parent="0"/>
<object id="server" label="Odoo CE 19" fqdn="bridge.odoo.server"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="0" y="120" width="180" height="40" as="geometry"/></mxCell></object>
<object id="finance" label="shadow-odoo-finance" fqdn="bridge.functions.shadow_odoo_finance"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="0" width="180" height="40" as="geometry"/></mxCell></object>
<object id="modules" label="sync-odoo-modules" fqdn="bridge.functions.sync_odoo_modules"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="80" width="180" height="40" as="geometry"/></mxCell></object>
<object id="catalog" label="catalog-sync" fqdn="bridge.functions.catalog_sync"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="160" width="180" height="40" as="geometry"/></mxCell></object>
<object id="documents" label="sync-documents" fqdn="bridge.functions.sync_documents"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="240" y="240" width="180" height="40" as="geometry"/></mxCell></object>
<object id="projects" label="shadow_projects" fqdn="supabase.odoo_seed.shadow_projects"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="-40" width="180" height="40" as="geometry"/></mxCell></object>
<object id="tasks" label="shadow_tasks" fqdn="supabase.odoo_seed.shadow_tasks"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="20" width="180" height="40" as="geometry"/></mxCell></object>
<object id="inventory" label="odoo.modules" fqdn="supabase.odoo.modules"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="80" width="180" height="40" as="geometry"/></mxCell></object>
<object id="assets" label="catalog" fqdn="bridge.supabase.catalog"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="160" width="180" height="40" as="geometry"/></mxCell></object>
<object id="bucket" label="documents" fqdn="bridge.storage.documents"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="480" y="240" width="180" height="40" as="geometry"/></mxCell></object>
<object id="drift" label="v_missing_in_odoo" fqdn="supabase.odoo_seed.v_missing_in_odoo"><mxCell style="rounded=1;whiteSpace=wrap;" vertex="1" parent="1"><mxGeometry x="720" y="0" width="180" height="40" as="geometry"/></mxCell></object>
<mxCell id="e1" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="server" target="finance"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e2" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="server" target="modules"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e3" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="server" target="catalog"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e4" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="server" target="documents"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e5" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="finance" target="projects"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e6" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="finance" target="tasks"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e7" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="modules" target="inventory"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e8" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="catalog" target="assets"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e9" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="documents" target="bucket"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e10" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="projects" target="drift"><mxGeometry relative="1" as="geometry"/></mxCell>
<mxCell id="e11" style="edgeStyle=orthogonalEdgeStyle;" edge="1" parent="1" source="tasks" target="drift"><mxGeometry relative="1" as="geometry"/></mxCell>
</root></mxGraphModel></diagram></mxfile>
$drawio$);
