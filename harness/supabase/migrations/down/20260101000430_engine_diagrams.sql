drop function catalog.put_diagram(text, text, text, text);
drop function catalog.diagram_attribute(text, text);
