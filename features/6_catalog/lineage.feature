@catalog @odoo @database
Feature: Where data comes from, and where it goes

  Scenario: From the model to its events, to the inbox
    Given renamed customers are announced
    And the customer "Azure Interior"
    When somebody renames the customer "Azure Interior" to "One"
    And exactly 1 event arrives and is completed
    And the catalog is synced
    Then down from the model "res.partner" there is the event type "res.partner.renamed"
    And down from the model "res.partner" there is the inbox

  Scenario: From the model to its shadow
    Given the projects and tasks were synced
    When the catalog is synced
    Then down from the model "project.task" there is the table "shadow_tasks"

  Scenario: From a model to those that it refers to
    When the catalog is synced
    Then the model "project.task" refers to the model "project.project"

  Scenario: From a view to the tables that it reads
    When the catalog is synced
    Then up from the view "scout.gold.v_revenue_summary" there is the inbox
