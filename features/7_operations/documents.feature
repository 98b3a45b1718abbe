@documents @odoo @database
Feature: Tax forms that are attached in Odoo are kept in a private place

  Background:
    Given the attachment "BIR 1601-C 2026-01.pdf" with some content

  Scenario: A form is put under its year and its kind
    When the documents are synced
    Then the run ends in success
    And the storage has "bir/2026/1601-C/" with that content

  Scenario: Nothing is uploaded twice
    Given the documents were synced
    When the documents are synced from the beginning
    Then nothing was uploaded

  Scenario: A form that is replaced does not overwrite the one before
    Given the documents were synced
    When the attachment "BIR 1601-C 2026-01.pdf" gets another content
    And the documents are synced
    Then the storage has 2 objects under "bir/2026/1601-C/" of this Odoo

  Scenario: A form that is deleted in Odoo is kept, and marked gone
    Given the documents were synced
    When the attachment "BIR 1601-C 2026-01.pdf" is deleted
    And the documents are synced
    Then the document is marked gone
    And the storage has "bir/2026/1601-C/" with that content

  @security
  Scenario: Nobody reads a form without a permission
    When the documents are synced
    Then an anonymous visitor cannot read it
    And somebody who is signed in without "documents:read" cannot read it
    And somebody who is signed in with "documents:read" can read it
