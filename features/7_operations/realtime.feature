@realtime @odoo @database @stack
Feature: Who subscribes hears of a change, if they may see it

  Scenario: An event is heard of as it arrives and as it is completed
    Given renamed customers are announced
    And the customer "Azure Interior"
    And somebody who may read events is subscribed to "odoo-sync"
    When somebody renames the customer "Azure Interior" to "One"
    And exactly 1 event arrives and is completed
    Then the subscriber hears of the event, and of its completion

  @security
  Scenario: Somebody without a permission hears nothing
    Given renamed customers are announced
    And the customer "Azure Interior"
    And somebody without any permission is subscribed to "odoo-sync"
    When somebody renames the customer "Azure Interior" to "One"
    And exactly 1 event arrives and is completed
    Then the subscriber hears nothing of what the event says

  Scenario: What changed since the last time is announced, and only then noted as sent
    When the changes are broadcast
    Then Realtime has taken the broadcast
    And how far it came is kept
