@seeds @database
Feature: The project brings what it needs to be useful from the first day

  Scenario: The nine parts went in, and may go in again
    When the seeds are applied again
    Then nothing of the seeds is there twice

  Scenario: The tools say what they take
    Then every tool of the catalog has a JSON schema that is one

  Scenario: The tax forms are known
    Then the forms "1601-C", "2550Q" and "1701Q" are known

  Scenario: A diagram leads to what it shows
    Then every node of every diagram is an asset of the catalog
