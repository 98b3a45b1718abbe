@webhook @database @stack
Feature: What was received is processed: pending, then completed or failed, and failed is tried again

  Scenario: A handler of the integration is called once for each event
    Given a handler that notes every event
    When the event "project.task.done" of the record "42" is sent with {"state": "done"}
    Then the event is completed
    And the handler noted it 1 time

  Scenario: A handler fails, and then works
    Given a handler that fails with "no such ledger" until it is mended
    When the event "project.task.done" of the record "42" is sent with {"state": "done"}
    Then the event is failed and says "no such ledger"
    When the handler is mended
    And the failed event is due again
    Then the event is completed
    And the handler noted it 1 time

  Scenario: A handler that fails does not hold up other records
    Given a handler that fails with "no" until it is mended
    When the event "project.task.done" of the record "42" is sent with {}
    And the event is failed and says "no"
    And the event "res.partner.renamed" of the record "43" is sent with {}
    Then the event is completed

  Scenario: A consumer that took an event and died does not keep it
    Given a handler that fails with "later" until it is mended
    When the event "project.task.done" of the record "42" is sent with {}
    And the event is failed and says "later"
    And a consumer takes the event and is not heard of for 6 minutes
    And the handler is mended
    Then the event is completed
