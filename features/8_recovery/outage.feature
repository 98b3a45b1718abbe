@webhook @odoo @stack
Feature: After the worst day nothing is missing

  @law_1
  Scenario: Supabase is down while people work, and comes back
    Given posted invoices are announced
    And renamed customers are announced
    And the customer "Azure Interior"
    And Supabase is down
    When somebody renames the customer "Azure Interior" 5 times
    And an accountant posts the invoice "A-9" of 1150.00
    And the relay has tried in vain
    And Supabase is up again
    Then exactly 6 events arrive and are completed
    And they took effect in the order in which they happened
    And each event has one line in the log

  @law_1
  Scenario: Supabase's database is killed while events arrive
    Given renamed customers are announced
    And the customer "Azure Interior"
    When somebody renames the customer "Azure Interior" 3 times
    And Supabase's database is killed and started again
    And somebody renames the customer "Azure Interior" 3 times
    Then exactly 6 events arrive and are completed
    And each event has one line in the log

  @law_1
  Scenario: Odoo's database is killed under the relay
    Given renamed customers are announced
    And the customer "Azure Interior"
    When somebody renames the customer "Azure Interior" to "One"
    And Odoo's database is killed and started again
    And somebody renames the customer "Azure Interior" to "Two"
    Then exactly 2 events arrive and are completed

  @law_1
  Scenario: Odoo is killed right after the act
    Given renamed customers are announced
    And the customer "Azure Interior"
    And the relay is stopped
    When somebody renames the customer "Azure Interior" to "One"
    And Odoo is killed
    And the relay is started
    Then exactly 1 event arrives and is completed

  @law_1 @law_4
  Scenario: The relay is killed again and again
    Given renamed customers are announced
    And the customers "Azure", "Deco" and "Gemini"
    When somebody renames each customer 5 times, while the relay is killed and started 3 times
    Then exactly 15 events arrive and are completed
    And they took effect in the order in which they happened
    And each event has one line in the log

  Scenario: An operator throws away what was delivered long ago, and nothing else
    Given renamed customers are announced
    And the customer "Azure Interior"
    When somebody renames the customer "Azure Interior" to "One"
    And exactly 1 event arrives and is completed
    And the relay is stopped
    And somebody renames the customer "Azure Interior" to "Two"
    And an operator purges the outbox
    And the relay is started
    Then the event of the name "Two" arrives and is completed
