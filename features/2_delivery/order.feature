@webhook
Feature: The events of one record take effect in the order in which they happened

  @odoo @law_4
  Scenario: A customer is renamed ten times
    Given renamed customers are announced
    And the customer "Azure Interior"
    When somebody renames the customer "Azure Interior" 10 times
    Then exactly 10 events arrive and are completed
    And they took effect in the order in which they happened
    And the last name that Supabase knows of "Azure Interior" is the one that Odoo has

  @odoo @law_4 @stack
  Scenario: The order holds over failures and two relays
    Given renamed customers are announced
    And the customers "Azure", "Deco" and "Gemini"
    And the receiver is down
    When somebody renames each customer 4 times
    And the relay has tried in vain
    And a second relay is started
    And the receiver is up again
    Then exactly 12 events arrive and are completed
    And they took effect in the order in which they happened

  @law_4 @database
  Scenario: What comes late does not overwrite what is newer
    When event 2 of the record "7" is sent and processed
    And event 1 of the record "7" is sent and processed
    Then event 1 of the record "7" is completed without effect
    And the newest event in effect of the record "7" is event 2
    And the log says that event 1 of the record "7" came late

  @law_4 @database
  Scenario: A gap is seen
    When event 1 of the record "8" is sent and processed
    And event 4 of the record "8" is sent and processed
    Then the log says that 2 events were missing when event 4 of the record "8" came
