@webhook
Feature: What cannot be delivered now is delivered later, once

  @odoo @law_1 @law_3 @stack
  Scenario: The answer is lost after Supabase has stored the event
    Given renamed customers are announced
    And the customer "Azure Interior"
    And the relay is killed as soon as the receiver has answered
    When somebody renames the customer "Azure Interior" to "One"
    And the relay was killed, and is started again
    Then exactly 1 event arrives and is completed
    And each event has one line in the log

  @odoo @law_3 @database
  Scenario: A delivery sent twice takes effect once
    Given renamed customers are announced
    And the customer "Azure Interior"
    When somebody renames the customer "Azure Interior" to "One"
    Then exactly 1 event arrives and is completed
    When the same event is sent again, signed afresh
    Then the answer is 200 and says that it is a duplicate
    And each event has one line in the log

  @odoo @law_1 @stack
  Scenario: An event that Supabase refuses for good is kept, with the reason, until somebody retries it
    Given renamed customers are announced
    And the customer "Azure Interior"
    And this Odoo is marked inactive in Supabase
    When somebody renames the customer "Azure Interior" to "One"
    Then the event is given up with a reason that names "instance_inactive"
    When this Odoo is marked active in Supabase
    And an operator retries what was given up
    Then exactly 1 event arrives and is completed

  @odoo @stack
  Scenario: A refused event of one customer does not hold up another customer's
    Given renamed customers are announced
    And the customers "Azure" and "Deco"
    And the receiver refuses the events of "Azure"
    When somebody renames each customer 2 times
    Then 2 events of "Deco" arrive and are completed
    And nothing arrives of "Azure"

  @odoo @security @stack
  Scenario: A redirect is never followed
    Given renamed customers are announced
    And the customer "Azure Interior"
    And the receiver redirects to another address
    When somebody renames the customer "Azure Interior" to "One"
    Then the event is given up with a reason that names "redirect"
    And nothing was sent to the other address

  @odoo @law_1 @stack
  Scenario: An event that waited for an hour is signed afresh
    Given renamed customers are announced
    And the customer "Azure Interior"
    And the relay is stopped
    When somebody renames the customer "Azure Interior" to "One"
    And the event waits for an hour
    And the relay is started
    Then exactly 1 event arrives and is completed
