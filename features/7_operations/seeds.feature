@seeds @database @stack
Feature: The project brings what it needs to be useful from the first day

  Scenario: The nine parts went in, and may go in again
    When the seeds are applied again
    Then not one row was written

  Scenario: The tools say what they take
    Then every tool of the catalog has a JSON schema of its arguments

  Scenario: The tax forms are known
    Then the forms "1601-C", "2550Q" and "1702Q" are known

  Scenario: A diagram leads to what it shows
    Then every node of every diagram is an asset of the catalog
