@webhook
Feature: Supabase takes an event once, and knows where it came from

  @events
  Scenario: An event is stored with all that it says
    When the event "project.task.done" of the record "42" is sent with {"name": "Close the books", "hours": 7.25}
    Then the answer is 200 and says that it is new
    And Supabase stored {"name": "Close the books", "hours": 7.25}
    And exactly 1 event is stored

  @database
  Scenario: What was stored is processed, and logged once
    When the event "project.task.done" of the record "42" is sent with {"name": "Close the books"}
    Then the event is completed
    And each event has one line in the log

  @database
  Scenario: An Odoo that nobody knew yet is registered by its first event
    When the event "project.task.done" of the record "42" is sent with {}
    Then the answer is 200 and says that it is new
    And this Odoo is known to Supabase

  @database
  Scenario: The record's newest event is found by its mapping
    When the event "project.task.done" of the record "42" is sent with {"state": "open"}
    And the event is completed
    And the event "project.task.done" of the record "42" is sent with {"state": "done"}
    And the event is completed
    Then the mapping of the record "42" leads to {"state": "done"}

  @events @law_3
  Scenario: The same key ten times at once is one event
    When the same event is sent 10 times at once
    Then one answer says that it is new, and 9 say that it is a duplicate
    And exactly 1 event is stored

  @events @law_3
  Scenario: Another body under a key that was used changes nothing
    When the event "project.task.done" of the record "42" is sent with {"state": "open"}
    And another body is sent under the same key
    Then the answer is 200 and says that it is a duplicate
    And Supabase stored {"state": "open"}

  @database
  Scenario: Numbers keep their precision
    When the event "account.move.posted" of the record "9" is sent with {"amount": 12345678901234.5678, "id": 9007199254740993}
    Then the answer is 200 and says that it is new
    And every digit of {"amount": 12345678901234.5678, "id": 9007199254740993} is stored

  @database
  Scenario: The log cannot be rewritten
    When the event "project.task.done" of the record "42" is sent with {}
    Then the answer is 200 and says that it is new
    And nobody can change or delete a line of the log
