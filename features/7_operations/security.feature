@security @database
Feature: Nobody reads or writes what was not granted

  Scenario: The audit finds nothing in the project or its database
    When the project and its database are audited
    Then the audit finds nothing

  Scenario Outline: Somebody <who> reads nothing of <table>
    Then somebody <who> cannot read <table>

    Examples:
      | who                           | table                    |
      | anonymous                     | odoo.webhook_events      |
      | anonymous                     | odoo.event_log           |
      | anonymous                     | odoo.modules             |
      | anonymous                     | odoo_seed.shadow_tasks   |
      | anonymous                     | catalog.assets           |
      | signed in, without permission | odoo.webhook_events      |
      | signed in, without permission | odoo.accepted_signatures |
      | signed in, without permission | odoo_seed.shadow_tasks   |
      | signed in, without permission | catalog.assets           |
      | signed in, without permission | catalog.permissions      |

  Scenario: Row-level security is on for every table
    Then every table of every schema of ours has row-level security
