@webhook
Feature: What happens in Odoo is captured as it happens
  An administrator says once which acts are announced. From then on every such act in Odoo is an event, written in the
  very transaction of the act, with the fields as they are then.

  @odoo @law_1
  Scenario: An accountant posts an invoice
    Given posted invoices are announced
    When an accountant posts the invoice "A-1" of 1150.00
    Then the event "account.move.posted" of "A-1" arrives and is completed
    And it says that "amount_total" is 1150.0
    And it says that "state" is "posted"
    And it names the customer of "A-1"

  @odoo
  Scenario: A draft is nobody's business yet
    Given posted invoices are announced
    When an accountant saves the draft invoice "A-2" of 99.00
    Then nothing arrives of "A-2"

  @odoo
  Scenario: A project manager creates a project with three tasks and finishes one
    Given created projects are announced
    And created tasks are announced
    And finished tasks are announced
    When a project manager creates the project "Office move"
    And a project manager creates the tasks "Plan", "Pack" and "Move" of "Office move"
    And a project manager finishes the task "Pack"
    Then exactly 5 events arrive and are completed
    And the event "project.task.done" of "Pack" arrives and is completed

  @odoo
  Scenario: Names keep every letter
    Given renamed customers are announced
    And the customer "Azure Interior"
    When somebody renames the customer "Azure Interior" to "Peñaranda – 株式会社 😀"
    Then the event "res.partner.renamed" of "Azure Interior" arrives and is completed
    And it says that "name" is "Peñaranda – 株式会社 😀"

  @odoo
  Scenario: A hundred records in one act are a hundred events
    Given created tasks are announced
    And the project "Year end"
    When a project manager creates 100 tasks of "Year end" at once
    Then exactly 100 events arrive and are completed

  @odoo
  Scenario: A field that Odoo does not have is named to who wired it
    Given the customer "Azure Interior"
    When a server action announces the field "nickname" of "Azure Interior"
    Then Odoo refuses it and names "nickname"
    And nothing arrives of "Azure Interior"
