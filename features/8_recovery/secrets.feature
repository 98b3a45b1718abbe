@webhook
Feature: Secrets are rotated without a refused event, and are never printed

  @odoo @stack
  Scenario: A secret is rotated
    Given renamed customers are announced
    And the customer "Azure Interior"
    When the receiver is given a new secret beside the old one
    And somebody renames the customer "Azure Interior" to "One"
    And exactly 1 event arrives and is completed
    And the relay is given the new secret
    And somebody renames the customer "Azure Interior" to "Two"
    Then exactly 2 events arrive and are completed
    And each was taken at the first attempt

  @odoo @stack
  Scenario: A wrong secret is named, and nothing is lost
    Given renamed customers are announced
    And the customer "Azure Interior"
    And the relay has a secret that Supabase does not know
    When somebody renames the customer "Azure Interior" to "One"
    Then the attempt is refused, and the reason asks whether the secret is the same on both sides
    When the relay has the right secret again
    Then exactly 1 event arrives and is completed

  @odoo @stack @law_7
  Scenario: No log and no table holds a secret
    Given renamed customers are announced
    And the customer "Azure Interior"
    And the relay has a secret that Supabase does not know
    When somebody renames the customer "Azure Interior" to "One"
    And the attempt is refused, and the reason asks whether the secret is the same on both sides
    Then no secret is in any log, in the outbox or in Supabase's tables

  @law_10
  Scenario Outline: A deprecated project is refused where it is named as <place>
    When the deprecated project "<project>" is named as <place>
    Then the command is refused with "deprecated_project"

    Examples:
      | project               | place                    |
      | xkxyvoboeubffxxbebsll | the relay's URL          |
      | ublqmilcjtpnflofprkr  | the relay's URL          |
      | xkxyvoboeubffxxbebsll | the URL of a sync        |
      | ublqmilcjtpnflofprkr  | the database of an audit |
