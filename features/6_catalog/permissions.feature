@catalog @security @database
Feature: Who may do what with an asset is asked, and denied unless it was granted

  Scenario: Nothing is permitted by default
    When somebody asks whether "role:nobody" may "read" the asset "scout.gold.v_revenue_summary"
    Then it is not permitted

  Scenario: What was granted is permitted, and nothing else
    Given "role:finance" was granted to "read" what is under "scout.gold.*"
    When somebody asks whether "role:finance" may "read" the asset "scout.gold.v_revenue_summary"
    Then it is permitted
    When somebody asks whether "role:finance" may "write" the asset "scout.gold.v_revenue_summary"
    Then it is not permitted
