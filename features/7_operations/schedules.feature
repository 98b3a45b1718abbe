@schedules @database
Feature: What has to run by itself does

  Scenario: What a crash left behind is swept up
    When the event "project.task.done" of the record "42" is sent with {}
    And the event is completed
    And the event is as a crash would have left it
    Then the event is completed

  Scenario: What is old is pruned, and what is not done is kept
    When the event "project.task.done" of the record "42" is sent with {}
    And the event is completed
    And the event is 400 days old
    And the event "project.task.done" of the record "43" is sent with {}
    And that event is 400 days old and still not done
    And what is old is pruned
    Then the event of the record "42" is gone
    And the event of the record "43" is still there

  Scenario: It is known what is scheduled, and what is not
    Then each schedule says whether it is registered

  @odoo
  Scenario: Odoo's own cron runs a sync
    Given the project "Close 2026"
    When a scheduled action of Odoo syncs the projects and tasks
    Then the shadow equals Odoo, field by field
