@schedules @database
Feature: What has to run by itself does

  @stack
  Scenario: What a crash left behind is swept up
    When the event "project.task.done" of the record "42" is sent with {}
    And the event is completed
    And the event is as a crash would have left it
    Then the event is completed

  @stack
  Scenario: What is old is pruned; what is not done, and the last word on a record, are kept
    When the event "project.task.done" of the record "42" is sent with {"state": "open"}
    And the event is completed
    And the event "project.task.done" of the record "42" is sent with {"state": "done"}
    And the event is completed
    And the event "project.task.done" of the record "43" is sent with {"state": "open"}
    And the event is still not done
    And every event is 400 days old
    And what is old is pruned
    Then of the record "42" there is only {"state": "done"}
    And of the record "43" there is only {"state": "open"}

  Scenario: It is known what is scheduled, and what is not
    Then each schedule says whether it is registered, or why not

  @odoo
  Scenario: Odoo's own cron runs a sync
    Given the project "Close 2026"
    When a scheduled action of Odoo syncs the projects and tasks
    Then the shadow equals Odoo, field by field
