@modules @odoo @database
Feature: Supabase knows which modules each Odoo has

  Scenario: The inventory is Odoo's own list
    When the modules are synced
    Then the run ends in success
    And Supabase's inventory equals Odoo's list of modules, field by field
    And the module "base" comes from "ce"

  Scenario: More modules than one page holds
    When the modules are synced, 100 a page
    Then the run took more than 5 pages
    And Supabase's inventory equals Odoo's list of modules, field by field

  Scenario: A module that was uninstalled is marked so, not forgotten
    Given the modules were synced
    When the module "base_automation" is no longer installed in Odoo
    And the modules are synced
    Then the module "base_automation" is marked uninstalled, and when
    And Supabase's inventory equals Odoo's list of modules, field by field

  Scenario: An Enterprise licence in a Community database is reported
    When an Enterprise module turns up installed in Odoo
    And the modules are synced
    Then the run ends in success
    And the run warns of that Enterprise module
