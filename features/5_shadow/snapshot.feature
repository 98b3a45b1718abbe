@finance @odoo @database
Feature: The shadow of projects and tasks equals Odoo

  Background:
    Given the project "Close 2026"
    And the tasks "Accruals", "Bank" and "Cash" of "Close 2026"

  @law_8
  Scenario: After a snapshot the shadow equals Odoo
    When the projects and tasks are synced
    Then the run ends in success
    And the shadow equals Odoo, field by field

  @law_8
  Scenario: More records than one page holds
    Given 25 more tasks of "Close 2026"
    When the projects and tasks are synced, 10 a page
    Then the shadow equals Odoo, field by field

  @law_8
  Scenario: What is archived stays in the shadow, as archived
    Given the projects and tasks were synced
    When a project manager archives the project "Close 2026"
    And the projects and tasks are synced
    Then the shadow equals Odoo, field by field
    And the shadow says that "Close 2026" is archived

  @law_8
  Scenario: What is deleted leaves the shadow, and a tombstone
    Given the projects and tasks were synced
    When a project manager deletes the task "Bank"
    And the projects and tasks are synced
    Then the shadow equals Odoo, field by field
    And there is a tombstone of "Bank"

  @law_8
  Scenario: What changed is all that is written
    Given the projects and tasks were synced
    When a project manager renames the task "Cash" to "Cash and equivalents"
    And the projects and tasks are synced
    Then the run was an increment, and changed 1 record
    And the shadow equals Odoo, field by field

  Scenario: How far the sync has come is kept
    When the projects and tasks are synced
    Then the cursors of "project.project" and "project.task" are kept

  Scenario: A run that was cut off does not look complete
    When the projects and tasks are synced, and the sync is cut off after its first page
    Then the run ends in failed
    And no cursor is kept
    When the projects and tasks are synced
    Then the run ends in success
    And the shadow equals Odoo, field by field

  Scenario: Two runs at once do not cross
    Given a run of the projects and tasks that is still under way
    When the projects and tasks are synced
    Then the sync is refused with "run_in_progress"
    When the projects and tasks are synced, and the sync takes over
    Then the run ends in success
