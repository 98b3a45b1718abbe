@finance @odoo @database @law_8
Feature: Where Odoo differs from the plan, the drift views say so, no more and no less

  Background:
    Given Odoo's projects and tasks are the plan

  Scenario: Nothing differs
    When the projects and tasks are synced
    Then nothing is missing in Odoo
    And nothing is an orphan in Odoo
    And no name drifted

  Scenario: What is planned and not in Odoo is missing
    Given the plan has the project "Payroll 2026" under the reference "plan.payroll"
    When the projects and tasks are synced
    Then exactly "plan.payroll" is missing in Odoo
    And nothing is an orphan in Odoo

  Scenario: What is in Odoo and not planned is an orphan
    Given the project "Nobody planned this"
    When the projects and tasks are synced
    Then exactly "Nobody planned this" is an orphan in Odoo
    And nothing is missing in Odoo

  Scenario: A renamed project drifts, and is seen to have been renamed
    Given the planned project "Close 2026" under the reference "plan.close"
    And the projects and tasks were synced
    When a project manager renames the project "Close 2026" to "Close 2027"
    And the projects and tasks are synced
    Then exactly "plan.close" drifted, from "Close 2026" to "Close 2027"

  Scenario: A plan without a name differs from a project that has one
    Given the planned project "Close 2026" under the reference "plan.close"
    And the plan leaves the name of "plan.close" open
    When the projects and tasks are synced
    Then exactly "plan.close" drifted

  Scenario: A copy that brings a reference along is a duplicate, and doubles nothing
    Given Odoo's projects have a field for the reference
    And the planned project "Close 2026" under the reference "plan.close"
    When a project manager copies the project "Close 2026" with its reference
    And the projects and tasks are synced
    Then exactly the copy is an orphan in Odoo, as a duplicate of "Close 2026"
    And nothing is missing in Odoo

  Scenario: What is archived is not missing
    Given the planned project "Close 2026" under the reference "plan.close"
    When a project manager archives the project "Close 2026"
    And the projects and tasks are synced
    Then nothing is missing in Odoo
