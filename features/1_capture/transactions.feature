@webhook
Feature: Only what was committed is sent
  An event belongs to the transaction of the act. If the act is taken back, so is its event, and who acts never waits for
  the network.

  @odoo @law_2
  Scenario: The act is refused after its event was written
    Given created projects are announced
    When a project manager creates the project "Doomed", which Odoo refuses at the end
    Then nothing arrives of "Doomed"

  @odoo @law_2
  Scenario: A part of the act is taken back
    Given the customer "Azure Interior"
    When a server action announces 1, 2 and 3 of "Azure Interior", and takes 2 back
    Then the numbers that arrive of "Azure Interior" are 1 and 3

  @odoo @law_2
  Scenario: Two people write the same record, and Odoo runs one act again
    Given the customer "Azure Interior"
    When two people change "Azure Interior" at the same moment, and Odoo runs one of the acts again
    Then exactly 1 event arrives and is completed

  @odoo @law_5 @stack
  Scenario: A receiver that hangs costs the user nothing
    Given renamed customers are announced
    And the customer "Azure Interior"
    And the receiver hangs after it has taken a request
    When somebody renames the customer "Azure Interior" to "One"
    And the receiver has taken it
    And somebody renames the customer "Azure Interior" to "Two"
    Then nobody waited longer than 5 seconds
    And 2 events arrive and are completed once the receiver answers again

  @odoo @law_5 @stack
  Scenario: Users do not notice that Supabase is down
    Given posted invoices are announced
    And Supabase is down
    When an accountant posts the invoice "A-3" of 10.00
    Then nobody waited longer than 5 seconds
    And the event is kept in Odoo
