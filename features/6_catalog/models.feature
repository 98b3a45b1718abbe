@catalog @odoo @database
Feature: The catalog names every model that Odoo has, and no model that it has not

  @law_9
  Scenario: Every model of Odoo, with its fields
    When the catalog is synced
    Then the run ends in success
    And the catalog equals Odoo's models and fields
    And the catalog has the model "account.move" of this Odoo

  @law_9
  Scenario: A model that an administrator makes, renames and removes
    Given the catalog was synced
    When an administrator makes the model "x_inspection" with the field "x_grade"
    And the catalog is synced
    Then the catalog has the model "x_inspection" of this Odoo
    And the catalog equals Odoo's models and fields
    When an administrator removes the model "x_inspection"
    And the catalog is synced
    Then the model "x_inspection" is archived in the catalog
    And the catalog equals Odoo's models and fields

  Scenario: A second sync of the same state writes nothing
    Given the catalog was synced
    When the catalog is synced
    Then the run wrote nothing

  Scenario: What an asset is, is found by its words
    Given the catalog was synced
    When somebody searches the catalog for "journal entry"
    Then the model "account.move" of this Odoo is among what is found

  Scenario: An asset whose name is not one is refused
    When somebody registers the asset "not a name"
    Then it is refused with 400

  Scenario: An action that there is not is refused, not acknowledged
    When somebody asks the catalog for "drop_everything"
    Then it is refused with 400
